-- Leaves the answer to what was claimed, unless there is one.
-- ARGV: prefix, the key, whose it is ('': a backend's)
local once = once_of(ARGV[2])
local known = known_once(once)
if not known or known == -4 then
  begin_to_add()
  remember_once(once, 0, ARGV[3])
end
return 1
