-- Looks through a part of what the backend was told to hold for what holds no longer; of users also for those that are
-- online without being told of.
-- ARGV: prefix, what (user, room or online), where to go on (0 at first)
-- Answers {where to go on (0 at the end), names}.
local set = ARGV[2] == 'online' and prefix .. ':online' or prefix .. ':told:' .. ARGV[2]
local found = call('SSCAN', set, ARGV[3], 'COUNT', 1000)
local names = {}
for _, name in ipairs(found[2]) do
  local is_so
  if ARGV[2] == 'user' then
    is_so = call('SISMEMBER', prefix .. ':online', name) == 1
  elseif ARGV[2] == 'online' then
    is_so = call('SISMEMBER', prefix .. ':told:user', name) == 1
  else
    is_so = call('PUBSUB', 'NUMSUB', prefix .. ':room:' .. name)[2] > 0
  end
  if not is_so then
    names[#names + 1] = name
  end
end
return { found[1], names }
