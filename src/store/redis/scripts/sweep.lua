-- Deletes what is too old, a bounded part of it.
-- ARGV: prefix, now, newest time of a message that is too old, of a queued one, most messages of a room
-- Answers {1 if there may be more, rooms that are left}.
local now, expired, queue_expired, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rooms, more = prefix .. ':log:rooms', 0
if queue_expired then
  local users = call('ZRANGE', prefix .. ':queues', '-inf', ARGV[4], 'BYSCORE', 'LIMIT', 0, 16)
  for _, user in ipairs(users) do
    expire(user, queue_expired)
    -- Also where that had nothing to do, because somebody has deleted a part.
    local front = entry_from(prefix .. ':queue:' .. user, 0)
    if front then
      call('ZADD', prefix .. ':queues', whole(time_of(front)), user)
    else
      call('ZREM', prefix .. ':queues', user)
    end
    more = 1
  end
end
if expired then
  for _, room in ipairs(call('ZRANGE', rooms, '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, 16)) do
    more = 1
    local meta, stream = prefix .. ':meta:' .. room, prefix .. ':stream:' .. room
    local known = call('HMGET', meta, 'h', 'f', 'r', 'x')
    if not known[1] then
      call('ZREM', rooms, room)
    elseif known[4] then
      -- Its last message was gone a lifetime ago, so it is at least two old: it is forgotten.
      call('UNLINK', meta, stream, prefix .. ':ids:' .. room)
      call('ZREM', rooms, room)
      call('HINCRBY', prefix .. ':log:forgotten', bucket(room), 1)
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
      elseif keep == fresh then
        call('ZADD', rooms, whole(time_of((entry_from(stream, keep)))), room)
      end
    end
  end
end
return { more, call('ZCARD', rooms) }
