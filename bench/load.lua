-- The requests of the scenarios that wrk sends. Arguments: script window_s run_id threads connections
-- period_s file...
--   place  shoppers.tsv skus.txt   orders; each has a shopper, one or two SKUs and an idempotency key of its own
--   place-rich  coupons.tsv skus.txt   orders of three SKUs, each with a coupon and points of its shopper
--   read   paths.txt               product details
--   mixed  shoppers.tsv skus.txt paths.txt   nine product details for each order
--   flash-direct  shoppers.tsv sale.tsv      one unit of a sale's SKU for each of many shoppers
-- With a period each connection waits that long before each request, and a random part of it before its first.
-- Sending stops at the end of the window and what is under way is answered, so that what was acknowledged is counted
-- exactly.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]
local CLOCK_MONOTONIC = 1
local clock = ffi.new("bench_time")
local threads = {}
local build, init_of = {}, {}

local function now_s()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, clock)
  return tonumber(clock.seconds) + tonumber(clock.nanoseconds) / 1e9
end

function setup(thread)
  thread:set("index", #threads)
  table.insert(threads, thread)
end

function init(args)
  script, window_s, run_id, thread_count = args[1], tonumber(args[2]), args[3], tonumber(args[4])
  fresh_connections, period_s = math.floor(tonumber(args[5]) / thread_count), tonumber(args[6])
  math.randomseed(index * 7919 + os.time())
  sent, answered, succeeded, orders, codes, counts = 0, 0, 0, 0, "", {}
  init_of[script](args[7], args[8], args[9])
end

local function read_shoppers(shoppers)
  tokens, addresses = {}, {}
  local line_number = 0
  for line in io.lines(shoppers) do
    if line_number % thread_count == index then
      tokens[#tokens + 1], addresses[#addresses + 1] = line:match("^(%S+)\t(%S+)$")
    end
    line_number = line_number + 1
  end
end

function init_of.place(shoppers, sku_list)
  read_shoppers(shoppers)
  skus = {}
  for line in io.lines(sku_list) do skus[#skus + 1] = line end
end

local function post(path, shopper, body)
  return wrk.format("POST", path, {
    ["Host"] = "127.0.0.1",
    ["Authorization"] = "Bearer " .. tokens[shopper],
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = run_id .. "-" .. index .. "-" .. sent,
  }, body)
end

function build.place()
  local shopper = (sent - 1) % #tokens + 1
  local first, second = skus[math.random(#skus)], skus[math.random(#skus)]
  local items = '{"sku":"' .. first .. '","quantity":1}'
  if sent % 2 == 0 and second ~= first then items = items .. ',{"sku":"' .. second .. '","quantity":2}' end
  return post("/api/v1/orders", shopper, '{"items":[' .. items .. '],"address_id":"' .. addresses[shopper] .. '"}')
end

init_of["flash-direct"] = function(shoppers, sale)
  read_shoppers(shoppers)
  for line in io.lines(sale) do sale_id, sale_sku = line:match("^(%S+)\t(%S+)$") end
end

build["flash-direct"] = function()
  local shopper = (sent - 1) % #tokens + 1
  return post("/api/v1/flash-sales/" .. sale_id .. "/orders", shopper,
    '{"sku":"' .. sale_sku .. '","quantity":1,"address_id":"' .. addresses[shopper] .. '"}')
end

init_of["place-rich"] = function(shoppers, sku_list)
  tokens, addresses, coupons, used = {}, {}, {}, {}
  local line_number = 0
  for line in io.lines(shoppers) do
    if line_number % thread_count == index then
      local token, address, list = line:match("^(%S+)\t(%S+)\t(%S+)$")
      local own = {}
      for coupon in list:gmatch("[^,]+") do own[#own + 1] = coupon end
      tokens[#tokens + 1], addresses[#addresses + 1], coupons[#coupons + 1], used[#used + 1] = token, address, own, 0
    end
    line_number = line_number + 1
  end
  skus = {}
  for line in io.lines(sku_list) do skus[#skus + 1] = line end
end

build["place-rich"] = function()
  local shopper = (sent - 1) % #tokens + 1
  local first = math.random(#skus)
  local items = {}
  for n = 0, 2 do items[n + 1] = '{"sku":"' .. skus[(first + n * 7) % #skus + 1] .. '","quantity":' .. n + 1 .. '}' end
  used[shopper] = used[shopper] + 1
  return post("/api/v1/orders", shopper, '{"items":[' .. table.concat(items, ",") .. '],"address_id":"'
    .. addresses[shopper] .. '","coupons":["' .. (coupons[shopper][used[shopper]] or "0") .. '"],"points":5}')
end

function init_of.read(paths)
  gets = {}
  for line in io.lines(paths) do gets[#gets + 1] = wrk.format("GET", line, { ["Host"] = "127.0.0.1" }) end
end

function build.read()
  return gets[math.random(#gets)]
end

function init_of.mixed(shoppers, sku_list, paths)
  init_of.place(shoppers, sku_list)
  init_of.read(paths)
end

function build.mixed()
  if sent % 10 == 0 then return build.place() end
  return build.read()
end

-- wrk asks before each request, the connection's first one included.
function delay()
  if not started_s then started_s = now_s() end
  local wait_s = 0
  if period_s > 0 then
    wait_s = fresh_connections > 0 and math.random() * period_s or period_s
    fresh_connections = fresh_connections - 1
  end
  if now_s() - started_s + wait_s >= window_s then return 600000 end
  return wait_s * 1000
end

function request()
  if started_s then sent = sent + 1 end  -- wrk looks at one request before it begins
  return build[script]()
end

function response(status, headers, body)
  answered = answered + 1
  if status == 200 or status == 201 then
    succeeded = succeeded + 1
    if status == 201 then orders = orders + 1 end
  else
    local code = body and body:match('"code": ?"([a-z_]+)"') or tostring(status)
    counts[code] = (counts[code] or 0) + 1
    codes = ""
    for name, count in pairs(counts) do codes = codes .. name .. "=" .. count .. " " end
  end
end

function done(summary, latency, requests)
  local function total(name)
    local sum = 0
    for _, thread in ipairs(threads) do sum = sum + thread:get(name) end
    return sum
  end
  for _, name in ipairs({ "sent", "answered", "succeeded", "orders" }) do
    io.write(string.format("BENCH %s %d\n", name, total(name)))
  end
  for _, thread in ipairs(threads) do io.write("BENCH codes " .. thread:get("codes") .. "\n") end
  for _, p in ipairs({ 50, 90, 95, 99 }) do
    io.write(string.format("BENCH p%d_ms %.3f\n", p, latency:percentile(p) / 1000))
  end
  local e = summary.errors
  io.write(string.format("BENCH socket_errors %d\n", e.connect + e.read + e.write + e.timeout))
end
