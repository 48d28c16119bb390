-- Count what a group has not acknowledged: pending entries and those not delivered yet.
-- ARGV: stream prefix, partition count, group.
local count = 0
for number = 0, tonumber(ARGV[2]) - 1 do
  local stream = ARGV[1] .. number
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local known = false
  if not groups.err then
    for _, flat in ipairs(groups) do
      local group = {}
      for at = 1, #flat, 2 do
        group[flat[at]] = flat[at + 1]
      end
      if group['name'] == ARGV[3] then
        known = true
        count = count + tonumber(group['pending']) + (tonumber(group['lag'] or 0) or 0)
      end
    end
  end
  if not known then
    count = count + redis.call('XLEN', stream)
  end
end
return count
