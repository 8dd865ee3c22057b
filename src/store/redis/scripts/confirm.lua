-- Removes a user's queued messages up to and with a place, if the claim on the queue is held still: a
-- node that was stopped for a while, and goes on where it was, must not remove what another one delivers.
-- ARGV: prefix, user, place, holder
-- Answers how many it has removed and one more, or 0 if somebody else holds the claim, or nobody.
if call('GET', prefix .. ':claim:' .. ARGV[2]) ~= ARGV[4] then
  return 0
end
local up_to = tonumber(ARGV[3])
begin_to_delete()
return 1 + remove_while(ARGV[2], function(item)
  return tonumber(string.sub(item[1], 1, -3)) <= up_to
end)
