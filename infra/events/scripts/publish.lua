-- Publish a batch of one source, wholly or not at all, if this relay may and the bus remembers what it should.
-- KEYS: 1 the source's hash.
-- ARGV: token, epoch, batch number, stream prefix, most entries of a stream, then (partition, type, body) for each event.
local token, epoch, batch = unpack(redis.call('HMGET', KEYS[1], 'token', 'epoch', 'batch'))
if token and tonumber(token) > tonumber(ARGV[1]) then
  return 'fenced'
end
if epoch ~= ARGV[2] or tonumber(batch) < tonumber(ARGV[3]) then
  return 'forgot'
end
local most = tonumber(ARGV[5])
local looked = {}
for at = 6, #ARGV, 3 do
  local stream = ARGV[4] .. ARGV[at]
  if not looked[stream] then
    looked[stream] = true
    if redis.call('XLEN', stream) >= most then
      return 'full'
    end
  end
end
for at = 6, #ARGV, 3 do
  redis.call('XADD', ARGV[4] .. ARGV[at], '*', 't', ARGV[at + 1], 'b', ARGV[at + 2])
end
-- Never lowered: a batch that was given up and reaches the server late is a repeat, not a loss of memory.
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'batch', math.max(tonumber(batch), tonumber(ARGV[3]) + 1))
return 'ok'
