-- Remember a new epoch of a source.
-- KEYS: 1 the source's hash. ARGV: token, epoch, batch number.
local token = redis.call('HGET', KEYS[1], 'token')
if token and tonumber(token) > tonumber(ARGV[1]) then
  return 'fenced'
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'epoch', ARGV[2], 'batch', ARGV[3])
return 'ok'
