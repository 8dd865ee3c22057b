-- Numbers a message, appends it to its room's log and publishes it.
-- ARGV: prefix, room, history size, most rooms (0: any number), entry, who is left out, run of Redis
-- Answers {offset, epoch, number, rooms if there is one more}, or -1: one room too many.
local room, size, most, entry = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local meta, stream, ids = prefix .. ':meta:' .. room, prefix .. ':stream:' .. room, prefix .. ':ids:' .. room
local rooms = prefix .. ':log:rooms'

local seed = era()
local known = call('HMGET', meta, 'h', 'f', 'e', 's', 'r')
local head, first, current, count
if known[1] then
  head, first, current = known[1] + 1, tonumber(known[2]), known[3]
  if known[4] ~= seed then
    current = epoch(seed, room)
    call('HSET', meta, 'e', current, 's', seed)
  end
else
  count = call('ZCARD', rooms)
  if most > 0 and count >= most then
    return -1
  end
  count = count + 1
  head, first, current = 1, 1, epoch(seed, room)
  -- Nothing is left of an earlier history, unless somebody has deleted a part of it.
  call('UNLINK', stream, ids)
  call('HSET', meta, 'f', '1', 'e', current, 's', seed)
end
local offset = whole(head)
call('XADD', stream, offset .. '-0', 'e', entry)
call('HSET', ids, id_of(entry), offset)
call('HSET', meta, 'h', offset)
if first == head then
  call('HDEL', meta, 'x')
  call('ZADD', rooms, whole(time_of(entry)), room)
end
-- Trimmed a chunk at a time; what is beyond the size cannot be read any more. After a change of the size
-- there may be much of it, which goes step by step.
local slack = math.max(1, math.min(64, math.floor(size / 8)))
if head + 1 - first >= size + slack then
  trim(room, first, math.min(head + 1 - size, first + 256), tonumber(known[5] or 0))
end
local number = call('HINCRBY', log, 'number', 1)
call('PUBLISH', prefix .. ':room:' .. room,
  struct.pack('>c2I8I8I4c16I4', 'm\1', number, head, 16, current, #ARGV[7])
    .. ARGV[7] .. struct.pack('>I4', #ARGV[6]) .. ARGV[6] .. entry)
return { head, current, number, count }
