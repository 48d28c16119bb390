-- Drop entries that every group has acknowledged. What a group has not read, or has pending, stays, however old.
-- ARGV: stream prefix, partition count. Returns how many entries were dropped.
local function after(one, other)
  local one_ms, one_n = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  if one_ms ~= other_ms then
    return tonumber(one_ms) > tonumber(other_ms)
  end
  return tonumber(one_n) > tonumber(other_n)
end
local dropped = 0
for number = 0, tonumber(ARGV[2]) - 1 do
  local stream = ARGV[1] .. number
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local lowest
  if not groups.err then
    for _, flat in ipairs(groups) do
      local group = {}
      for at = 1, #flat, 2 do
        group[flat[at]] = flat[at + 1]
      end
      local bound = group['last-delivered-id']
      if tonumber(group['pending']) > 0 then
        bound = redis.call('XPENDING', stream, group['name'])[2]
      end
      if not lowest or after(lowest, bound) then
        lowest = bound
      end
    end
  end
  if lowest then
    dropped = dropped + redis.call('XTRIM', stream, 'MINID', '~', lowest)
  end
end
return dropped
