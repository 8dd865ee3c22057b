-- Gives a claim back.
-- ARGV: prefix, the key's name
local key = prefix .. ':once:' .. ARGV[2]
begin_to_delete()
local state = call('GETRANGE', key, 16, 16)
if state == 'p' or state == 'b' then
  call('DEL', key)
end
return 1
