-- Deletes what is too old, a bounded part of it.
-- ARGV: prefix, now, newest time of a message that is too old, of a queued one, most messages of a room
-- Answers {1 if there may be more, rooms that are left}.
local now, expired, queue_expired, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rooms, more = prefix .. ':log:rooms', 0
begin_to_delete()
if expire_oldest(queue_expired) then
  more = 1
end
if expired then
  for _, room in ipairs(call('ZRANGE', rooms, '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, 16)) do
    more = 1
    local meta, stream = prefix .. ':meta:' .. room, prefix .. ':stream:' .. room
    local known = call('HMGET', meta, 'h', 'f', 'r', 'x', 'c')
    if not known[1] then
      call('ZREM', rooms, room)
      call('ZREM', prefix .. ':log:used', room)
    elseif known[4] then
      -- Its last message was gone a lifetime ago, so it is at least two old: it is forgotten.
      forget(room)
    else
      local head, first = tonumber(known[1]), tonumber(known[2])
      local fresh = fresh_from(stream, first, head, expired)
      local keep = math.min(fresh, first + most)
      if keep > first then
        trim(room, first, keep, tonumber(known[3] or 0))
      end
      if keep > head then
        call('HSET', meta, 'x', '1')
        call('ZADD', rooms, now, room)
        -- It makes way before all others, as nothing would be lost.
        call('ZADD', prefix .. ':log:used', 'XX', 0, room)
        if known[5] then
          call('ZADD', prefix .. ':begun:' .. known[5], 'XX', 0, room)
        end
      elseif keep == fresh then
        call('ZADD', rooms, whole(time_of((entry_from(stream, keep)))), room)
      end
    end
  end
end
return { more, call('ZCARD', rooms) }
