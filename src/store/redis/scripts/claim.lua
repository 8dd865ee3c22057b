-- Who delivers a user's queue.
-- ARGV: prefix, user, holder, what to do (claim, take from others, renew, release), for how many milliseconds
-- Answers 1, or 0 if somebody else holds it (renew, release: if this one does not).
local key, holder, act = prefix .. ':claim:' .. ARGV[2], ARGV[3], ARGV[4]
local current = call('GET', key)
if current ~= holder and act ~= 'take' and (current or act ~= 'claim') then
  return 0
end
-- A Redis that is full lets it be claimed: what is delivered makes room.
begin_to_delete()
if act == 'release' then
  call('DEL', key)
else
  call('SET', key, holder, 'PX', ARGV[5])
end
return 1
