-- Read the next entries of partitions that the consumer still owns; acknowledge those of types it does not want.
-- All owners of a partition read under one consumer name, so that the next one finds what the last one left pending.
-- KEYS: 1 owners.
-- ARGV: consumer, stream prefix, group, most entries, count of types, types..., then (partition, tenure, cursor) each.
-- A cursor is '>' for new entries, or the id after which pending ones are read again; once there are none, it is '>'.
-- Returns for each partition that was asked: {partition, 'lost'} or {partition, 'read', next cursor, {id, body, ...}}.
local me, prefix, group, left = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local wanted = {}
local first = 6 + tonumber(ARGV[5])
for at = 6, first - 1 do
  wanted[ARGV[at]] = true
end

local function read_on(stream, cursor)
  local read = redis.pcall('XREADGROUP', 'GROUP', group, 'owner', 'COUNT', left, 'STREAMS', stream, cursor)
  if read and read.err then
    redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    return {}
  end
  return read and read[1][2] or {}
end

local reply = {}
for at = first, #ARGV, 3 do
  if left <= 0 then
    break
  end
  local partition, tenure, cursor = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local lease = redis.call('HGET', KEYS[1], partition) or ''
  local mine = me .. '|' .. tenure .. '|'
  if string.sub(lease, 1, #mine) ~= mine then
    reply[#reply + 1] = {partition, 'lost'}
  else
    local stream = prefix .. partition
    local entries = read_on(stream, cursor)
    if #entries == 0 then
      cursor = '>'
      entries = read_on(stream, cursor)
    end
    local kept = {}
    for _, entry in ipairs(entries) do
      left = left - 1
      if cursor ~= '>' then
        cursor = entry[1]
      end
      local fields = entry[2]
      if fields and wanted[fields[2]] then
        kept[#kept + 1] = entry[1]
        kept[#kept + 1] = fields[4]
      else
        redis.call('XACK', stream, group, entry[1])
      end
    end
    reply[#reply + 1] = {partition, 'read', cursor, kept}
  end
end
return reply
