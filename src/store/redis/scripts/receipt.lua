-- Records that a user has read the newest message with an id.
-- ARGV: prefix, room, history size, newest time that is too old, id, user, time, most receipts of one
-- Answers 1, or 0 if there is no such message or it has as many as it may.
local offset = find(ARGV[5])
if not offset then
  return 0
end
local key = prefix .. ':receipts:' .. room .. '\31' .. whole(offset)
local count = call('HLEN', key)
if count >= tonumber(ARGV[8]) then
  return call('HEXISTS', key, ARGV[6])
end
call('HSETNX', key, ARGV[6], count .. ':' .. ARGV[7])
local meta = prefix .. ':meta:' .. room
if tonumber(call('HGET', meta, 'r') or 0) < offset then
  call('HSET', meta, 'r', whole(offset))
end
return 1
