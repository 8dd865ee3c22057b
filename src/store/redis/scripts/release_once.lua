-- Gives a claim back.
-- ARGV: prefix, the key's name
local key = prefix .. ':once:' .. ARGV[2]
begin_to_delete()
if call('GETRANGE', key, 16, 16) == 'p' then
  call('DEL', key)
end
return 1
