-- Give up all partitions of a consumer and its membership.
-- KEYS: 1 members, 2 owners. ARGV: consumer.
redis.call('ZREM', KEYS[1], ARGV[1])
local owners = redis.call('HGETALL', KEYS[2])
local mine = ARGV[1] .. '|'
for at = 1, #owners, 2 do
  if string.sub(owners[at + 1], 1, #mine) == mine then
    redis.call('HDEL', KEYS[2], owners[at])
  end
end
return 'ok'
