-- Forgets rooms that are another instance's now or, without any, notes that none is left.
-- ARGV: prefix, generation of the list, then rooms
-- Answers 1, or 0 if the list has changed since.
if call('HGET', log, 'layout') ~= ARGV[2] then
  return 0
end
begin_to_delete()
if #ARGV == 2 then
  call('HSET', log, 'tidy', ARGV[2])
end
for at = 3, #ARGV do
  if call('ZSCORE', prefix .. ':log:rooms', ARGV[at]) then
    forget(ARGV[at])
  end
end
return 1
