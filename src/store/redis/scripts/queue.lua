-- What the scripts share that look into a user's queue.

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
      if sender and call('HINCRBY', senders, sender, -1) < 1 then
        call('HDEL', senders, sender)
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
