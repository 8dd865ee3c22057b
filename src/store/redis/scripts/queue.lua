-- What the scripts share that look into a user's queue.

local function sent_by(sender)
  return prefix .. ':sent:' .. sender
end

-- Counts a message of a sender's as waiting (1) or not any more (-1). A sender that is silent for as long as
-- messages are kept has none left, whatever was counted.
local function note_sent(sender, change, size, kept)
  local sent = sent_by(sender)
  local count = call('HINCRBY', sent, 'n', change)
  if count < 1 then
    call('DEL', sent)
    return
  end
  call('HINCRBY', sent, 'b', change * size)
  if kept and kept > 0 then
    call('PEXPIRE', sent, whole(kept))
  end
end

-- Whether another message of this size would be too much of the sender. One always fits.
local function is_used_up(sender, size, most, most_bytes)
  local sent = call('HMGET', sent_by(sender), 'n', 'b')
  local count, bytes = tonumber(sent[1] or 0), tonumber(sent[2] or 0)
  return most > 0 and (count >= most or (count > 0 and bytes + size > most_bytes))
end

-- Removes messages from the front of the user's queue for as long as `gone` says so; returns how many.
local function remove_while(user, gone)
  local queue, senders = prefix .. ':queue:' .. user, prefix .. ':senders:' .. user
  local removed, count, front = 0, 1, nil
  repeat
    local items, last = call('XRANGE', queue, '-', '+', 'COUNT', count), nil
    front = nil
    for _, item in ipairs(items) do
      if not gone(item) then
        front = item
        break
      end
      last = item[1]
      removed = removed + 1
      local sender = item[2][4]
      if sender then
        if call('HINCRBY', senders, sender, -1) < 1 then
          call('HDEL', senders, sender)
        end
        note_sent(sender, -1, size_of(item[2][2]))
      end
    end
    if last then
      call('XTRIM', queue, 'MINID', '=', whole(string.sub(last, 1, -3) + 1) .. '-0')
    end
    count = 16
  until front or not last
  if front and removed > 0 then
    call('ZADD', prefix .. ':queues', whole(time_of(front[2][2])), user)
  elseif removed > 0 then
    call('UNLINK', queue, senders)
    call('ZREM', prefix .. ':queues', user)
  end
  return removed
end

-- Removes what is too old.
local function expire(user, expired)
  if expired then
    remove_while(user, function(item)
      return time_of(item[2][2]) <= expired
    end)
  end
end

-- Removes what is too old from the queues that have the oldest messages. Answers whether there may be more.
local function expire_oldest(expired)
  if not expired then
    return false
  end
  local users = call('ZRANGE', prefix .. ':queues', '-inf', whole(expired), 'BYSCORE', 'LIMIT', 0, 16)
  for _, user in ipairs(users) do
    expire(user, expired)
    -- Also where that had nothing to do, because somebody has deleted a part.
    local front = entry_from(prefix .. ':queue:' .. user, 0)
    if front then
      call('ZADD', prefix .. ':queues', whole(time_of(front)), user)
    else
      call('ZREM', prefix .. ':queues', user)
    end
  end
  return #users > 0
end
