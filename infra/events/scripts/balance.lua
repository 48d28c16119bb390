-- Renew a consumer's partitions, take free ones up to a fair share, give up surplus ones.
-- KEYS: 1 members (consumer -> end of its membership, ms), 2 owners (partition -> consumer|tenure|end of lease, ms).
-- ARGV: consumer, lease in ms, partition count, stream prefix, group, '1' to begin new tenures.
-- Returns partition, tenure, partition, tenure, ... of what the consumer owns now.
-- A tenure is a time in microseconds: none is used twice, also not after the server was emptied.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local new_tenure = string.format('%.0f', clock[1] * 1000000 + clock[2])
local me, lease, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

redis.call('ZADD', KEYS[1], now + lease, me)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local share = math.ceil(count / redis.call('ZCARD', KEYS[1]))

local owned, free = {}, {}
local owners = redis.call('HGETALL', KEYS[2])
local lease_of = {}
for at = 1, #owners, 2 do
  lease_of[owners[at]] = owners[at + 1]
end
for number = 0, count - 1 do
  local partition = tostring(number)
  local owner, tenure, ends = string.match(lease_of[partition] or '', '^([^|]*)|([^|]*)|([^|]*)$')
  if owner == me then
    owned[#owned + 1] = {partition, ARGV[6] == '1' and new_tenure or tenure}
  elseif not owner or tonumber(ends) < now then
    free[#free + 1] = partition
  end
end
while #owned > share do
  redis.call('HDEL', KEYS[2], table.remove(owned)[1])
end
for _, partition in ipairs(free) do
  if #owned >= share then
    break
  end
  redis.pcall('XGROUP', 'CREATE', ARGV[4] .. partition, ARGV[5], '0', 'MKSTREAM')
  owned[#owned + 1] = {partition, new_tenure}
end
local reply = {}
for _, one in ipairs(owned) do
  redis.call('HSET', KEYS[2], one[1], me .. '|' .. one[2] .. '|' .. string.format('%.0f', now + lease))
  reply[#reply + 1] = one[1]
  reply[#reply + 1] = one[2]
end
return reply
