-- Removes what is delivered, and gives one up, if this node is still the one that delivers.
-- ARGV: prefix, node, stream, most that are kept of those given up, the number of the one that is given up (''), why, then
-- the numbers of those that are delivered
-- Answers how many were removed.
if not delivers(ARGV[2]) then
  return 0
end
begin_to_delete()
local removed = 0
for at = 7, #ARGV do
  removed = removed + remove_webhook(ARGV[3], ARGV[at])
end
if ARGV[5] ~= '' then
  removed = removed + fail_webhook(ARGV[3], ARGV[5], ARGV[6], ARGV[4])
end
return removed
