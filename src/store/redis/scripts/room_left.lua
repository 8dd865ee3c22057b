-- Notes that a room was left by its last member on one node: from now on it has to stay empty to be vacated.
-- ARGV: prefix, room
if call('SISMEMBER', prefix .. ':told:room', ARGV[2]) == 0 then
  return 0
end
begin_to_add()
local time = call('TIME')
call('HSET', prefix .. ':told:left', ARGV[2], whole(time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
