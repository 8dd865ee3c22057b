-- What the scripts share that look into a room's log. ARGV[2] is the room.
local room = ARGV[2]
local stream = prefix .. ':stream:' .. room

-- Where the room stands, for which ARGV[3] is the number of messages that may be read and ARGV[4] the
-- newest time that is too old, or nothing.
local function position()
  local seed = era()
  local meta = call('HMGET', prefix .. ':meta:' .. room, 'h', 'f', 'e', 's', 'r')
  if not meta[1] then
    return 0, 1, epoch(seed, room), 0
  end
  local head = tonumber(meta[1])
  local from = math.max(tonumber(meta[2]), head + 1 - tonumber(ARGV[3]))
  local oldest = fresh_from(stream, from, head, tonumber(ARGV[4]))
  local current = meta[4] == seed and meta[3] or epoch(seed, room)
  return head, oldest, current, tonumber(meta[5] or 0)
end

-- The offset of the newest message with this id, if it can be read.
local function find(id)
  local found = call('HGET', prefix .. ':ids:' .. room, id)
  if not found then
    return nil
  end
  local offset = tonumber(found)
  local head = tonumber(call('HGET', prefix .. ':meta:' .. room, 'h') or 0)
  local expired = tonumber(ARGV[4])
  if offset <= head - tonumber(ARGV[3]) or (expired and is_expired(stream, offset, expired)) then
    return nil
  end
  return offset
end
