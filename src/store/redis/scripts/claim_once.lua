-- Claims a key, or remembers it with its answer.
-- ARGV: prefix, the key, whose it is ('': a backend's), '1' if it is only claimed
-- Answers 1, or what is known of the key.
local once = once_of(ARGV[2])
local known = known_once(once)
if known then
  return known
end
begin_to_add()
if ARGV[4] == '1' then
  call('SET', prefix .. ':once:' .. once.name, once.content .. 'p', 'PX', once.kept)
else
  remember_once(once, 0, ARGV[3])
end
return 1
