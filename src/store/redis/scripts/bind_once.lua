-- Keeps a key for its content, of a message that is stored with its key on another instance.
-- ARGV: prefix, the key
-- Answers 1, or what is known of the key.
local once = once_of(ARGV[2])
local known = known_once(once)
if known then
  return known
end
begin_to_add()
local key = prefix .. ':once:' .. once.name
local is_new = call('EXISTS', key) == 0
call('SET', key, once.content .. 'b', 'PX', once.kept)
if is_new then
  count_key(once, '')
end
return 1
