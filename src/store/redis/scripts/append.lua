-- Numbers a message, appends it to its room's log and publishes it.
-- ARGV: prefix, room, history size, most rooms (0: any number), entry, who is left out, who is charged for
-- the room if it begins with this ('': nobody), the most rooms that one may begin (0: any number), the key if it
-- happens once (''), the webhook that tells of it (''), run of Redis,
-- generation of the list of instances ('' where there is one alone)
-- Answers {offset, epoch, number, rooms if there is one more, rooms forgotten for it}, or what is known of the key, or
-- a refusal: -1, one room too many, -2, one too many of its creator, or -5, the room may be another instance's by now.
local room, size, most, entry = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local meta, stream, ids = prefix .. ':meta:' .. room, prefix .. ':stream:' .. room, prefix .. ':ids:' .. room
local rooms = prefix .. ':log:rooms'

-- Rooms of a time before their use was recorded are entered into the order, some at a time.
local function adopt(rooms)
  local used = prefix .. ':log:used'
  if call('ZCARD', used) < call('ZCARD', rooms) then
    for _, old in ipairs(call('ZRANGE', rooms, 0, 255)) do
      call('ZADD', used, 'NX', whole(last_used(old)), old)
    end
  end
end

local eras = call('HMGET', log, 'seed', 'layout')
if eras[2] and eras[2] ~= ARGV[12] then
  return -5
end
local once = once_of(ARGV[9])
local past = once and known_once(once)
if past then
  return past
end
local seed = eras[1] or era()
local known = call('HMGET', meta, 'h', 'f', 'e', 's', 'r')
local head, first, current, count, evicted
if known[1] then
  head, first, current = known[1] + 1, tonumber(known[2]), known[3]
  if known[4] ~= seed then
    current = epoch(seed, room)
    call('HSET', meta, 'e', current, 's', seed)
  end
else
  begin_to_add()
  local creator, own, most_begun = ARGV[7], nil, tonumber(ARGV[8])
  local now = time_of(entry)
  evicted = 0
  if creator ~= '' then
    own = prefix .. ':begun:' .. creator
    if most_begun > 0 and call('ZCARD', own) >= most_begun then
      if not evict(own, now) then
        return -2
      end
      evicted = 1
    end
  end
  count = call('ZCARD', rooms)
  if most > 0 and count >= most then
    adopt(rooms)
    if not evict(prefix .. ':log:used', now) then
      return -1
    end
    evicted = evicted + 1
    count = call('ZCARD', rooms)
  end
  count = count + 1
  head, first, current = 1, 1, epoch(seed, room)
  -- Nothing is left of an earlier history, unless somebody has deleted a part of it.
  call('UNLINK', stream, ids)
  call('HSET', meta, 'f', '1', 'e', current, 's', seed)
  call('ZADD', prefix .. ':log:used', whole(now), room)
  if own then
    call('HSET', meta, 'c', creator)
    call('ZADD', own, whole(now), room)
  end
end
local offset = whole(head)
if #ARGV[6] > 0 then
  call('XADD', stream, offset .. '-0', 'e', entry, 'x', ARGV[6])
else
  call('XADD', stream, offset .. '-0', 'e', entry)
end
call('HSET', ids, id_of(entry), offset)
call('HSET', meta, 'h', offset, 'u', string.sub(entry, 2, 9))
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
if once then
  remember_once(once, head, ARGV[7])
end
if ARGV[10] ~= '' then
  add_webhook(ARGV[10], number, false, entry, head, current)
end
publish(prefix .. ':room:' .. room,
  struct.pack('>c2I8I8I4c16I4', 'm\1', number, head, 16, current, #ARGV[11])
    .. ARGV[11] .. struct.pack('>I4', #ARGV[6]) .. ARGV[6] .. entry)
return { head, current, number, count, evicted }
