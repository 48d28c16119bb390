-- Takes up to a number of requests from a token bucket.
-- KEYS[1]: the bucket. ARGV: requests a second, burst, how many are wanted.
-- Returns how many may pass and, when it is none, in how many milliseconds the next may.
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(state[1]) or burst, tonumber(state[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000)
local count = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - count), 'at', string.format('%.0f', now))
-- A bucket that would be full again need not be kept.
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens + count) / rate * 1000) + 1000)
if count > 0 then return {count, 0} end
return {0, math.ceil((1 - tokens) / rate * 1000)}
