-- Forgetting rooms, and making place for new ones.

-- Removes all that is kept of a room; its next history has another epoch.
local function forget(room)
  local meta = prefix .. ':meta:' .. room
  local known = call('HMGET', meta, 'h', 'f', 'r', 'c')
  call('UNLINK', meta, prefix .. ':stream:' .. room, prefix .. ':ids:' .. room)
  for offset = tonumber(known[2] or 1), math.min(tonumber(known[1] or 0), tonumber(known[3] or 0)) do
    call('UNLINK', prefix .. ':receipts:' .. room .. '\31' .. whole(offset))
  end
  call('ZREM', prefix .. ':log:rooms', room)
  call('ZREM', prefix .. ':log:used', room)
  if known[4] then
    call('ZREM', prefix .. ':begun:' .. known[4], room)
  end
  call('HINCRBY', prefix .. ':log:forgotten', bucket(room), 1)
end

-- When the room was last used, as its messages tell: an emptied one makes way before all others.
local function last_used(room)
  local known = call('HMGET', prefix .. ':meta:' .. room, 'u', 'x')
  if known[2] or not known[1] then
    return 0
  end
  return (struct.unpack('>i8', known[1]))
end

-- Forgets the least recently used room without members, of those in the sorted set `order`, whose scores
-- are no later than the rooms' last uses: where one was used since, or somebody listens to its channel,
-- that is noted. Answers whether there was one among those looked at.
local function evict(order, now)
  for _ = 1, 32 do
    local first = call('ZRANGE', order, 0, 0, 'WITHSCORES')
    if not first[1] then
      return false
    end
    local candidate, recorded = first[1], tonumber(first[2])
    local used = last_used(candidate)
    if listeners(prefix .. ':room:' .. candidate) > 0 then
      used = math.max(now, recorded + 1)
    end
    if used <= recorded then
      forget(candidate)
      -- Where the room is not known any more, its creator is not either.
      call('ZREM', order, candidate)
      return true
    end
    call('ZADD', order, whole(used), candidate)
  end
  return false
end
