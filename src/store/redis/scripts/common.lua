-- What the scripts share. ARGV[1] is the prefix of all keys.
--
--   log              hash: number (counts every append and every queued message, on from the time in
--                    microseconds at which the era began), seed (the number at which it began, and whose), run
--                    (the Redis process last checked in to), base (the number then), clean (the number when the
--                    last node left in order), resumed (the run whose first nodes trust that it is gone from the
--                    disk), checkins (counts them). Of several instances (layout.lua): layout (the generation of
--                    their list) and before (the one before), place and count in it, tidy (the generation under
--                    which all rooms of others were forgotten), list (which servers they are)
--   log:nodes        hash: name of a node's connections -> the count when it checked in, or 'left'
--   log:rooms        sorted set: rooms by a time no later than that of their oldest message, or by
--                    when they were emptied
--   log:forgotten    hash: bucket -> how many of its rooms were forgotten
--   log:used         sorted set: rooms by a time no later than their last use
--   begun:<sender>   sorted set: the same for those rooms that one sender has begun
--   meta:<room>      hash: h (newest offset), f (oldest on disk, or h + 1), e (epoch) under s (seed),
--                    r (no message beyond this offset has receipts), x (set once it was emptied),
--                    u (time of the newest message, as in its entry), c (who has begun it)
--   stream:<room>    stream: <offset>-0 -> entry, who is left out (may be missing)
--   ids:<room>       hash: message id -> offset of the newest message with it
--   receipts:<room>\31<offset>   hash: user -> place:time
--   queue:<user>     stream: <number>-0 -> entry, sender
--   senders:<user>   hash: sender -> how many of its messages wait
--   sent:<sender>    hash: n, b: how many messages of a sender wait for all users, and their bytes
--   queues           sorted set: users by the time of their oldest queued message
--   once:<key>       what is remembered of a write that happens once (once.lua)
--   keys:<sender>    list: the keys of one sender's such writes, or of all backends' (''), oldest first
--   hook:<stream>    stream: <number>-0 -> a webhook: what outbox.rs keeps of it, of a room message also its entry,
--                    offset and epoch
--   hooks            sorted set: the streams in which webhooks wait, by the number of the first
--   hooks:changed    set: those that have got one since the node that delivers has looked, and 'now' where all that
--                    wait for another try are to be tried at once
--   hooks:droppable  sorted set: <number>:<stream> of those that may be dropped
--   hooks:failed     stream: those that were given up, as in hook:<stream>, with their stream, why, and whether they
--                    may be dropped
--   hooks:state      hash: pending, dropped, failed: how many
--   told:<kind>      set: the nodes that the backend was told are alive (node), the users online (user), the rooms
--                    occupied (room)
--   told:left        hash: room -> when its last member on any node left (ms), until it is vacated
--   told:left:<node>   a node that has stopped in order, for some moments
--   told:era         the era (seed) in which all rooms were looked at, told:occupied: set: those rooms
--   revoked          hash: id -> a revocation of tokens
--   revoked:order    sorted set: their ids by the version at which they were added
--   revoked:ends     sorted set: their ids by when they are over
--   revoked:state    hash: version (counts those added), epoch (changes when one was taken back)
local call = redis.call
local prefix = ARGV[1]
local log = prefix .. ':log'
-- In a Redis Cluster the prefix has braces, and channels are in the slot of the keys.
local sharded = string.find(prefix, '{', 1, true) and 'S' or ''

local function publish(channel, message)
  call(sharded .. 'PUBLISH', channel, message)
end

local function listeners(channel)
  return call('PUBSUB', sharded == '' and 'NUMSUB' or 'SHARDNUMSUB', channel)[2]
end

-- A number as text; Lua's own way has 14 digits.
local function whole(number)
  return string.format('%.0f', number)
end

-- Every room gets another epoch: the log is new, or some of it was lost. The numbers go on beyond all
-- that were ever given, so nothing that was remembered of them can be taken for something else. Answers the number at
-- which the era begins; its seed is more.
local function begin_era(beyond)
  local time = call('TIME')
  local number = whole(math.max(time[1] * 1000000 + time[2], beyond + 1))
  -- Two instances may begin at the same moment, and a room may move from one to the other.
  local info = redis.pcall('INFO', 'replication')
  local id = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
  id = string.sub(id, 1, 8)
  call('HSET', log, 'seed', number .. id, 'number', number)
  if id ~= '' then
    -- An era of a Redis that was emptied belongs to this run, too, although nobody checks in: a later run is told from it.
    call('HSET', log, 'run', id, 'base', number)
  end
  return number
end

-- A Redis that is full refuses a script its first write, if that could need memory, and lets one that has begun
-- to delete do what it likes. So whoever adds something begins with this, …
local function begin_to_add()
  call('SET', prefix .. ':none', '', 'PX', 1)
end

-- … and whoever deletes with this.
local function begin_to_delete()
  call('DEL', prefix .. ':none')
end

local function era()
  local seed = call('HGET', log, 'seed')
  if not seed then
    begin_era(0)
    seed = call('HGET', log, 'seed')
  end
  return seed
end

-- Forgotten rooms are counted by bucket, as many buckets as four hexadecimal digits tell apart.
local function bucket(room)
  return string.sub(redis.sha1hex(room), 1, 4)
end

local function epoch(seed, room)
  local generation = call('HGET', prefix .. ':log:forgotten', bucket(room)) or '0'
  return string.sub(redis.sha1hex(seed .. '\31' .. room .. '\31' .. generation), 1, 16)
end

-- Entries are written by wire.rs: version (1 byte), time (8), number of attachments (4), id (4 bytes
-- of length and the text), ...
local function time_of(entry)
  return (struct.unpack('>i8', entry, 2))
end

local function id_of(entry)
  return (struct.unpack('>I4c0', entry, 14))
end

-- As Entry::size counts it: without the 25 bytes, and 4 an attachment, that surround the contents.
local function size_of(entry)
  return #entry - 25 - 4 * struct.unpack('>I4', entry, 10)
end

-- Of what is stored at this offset or after it: the first entry, and its offset.
local function entry_from(stream, offset)
  local found = call('XRANGE', stream, whole(offset) .. '-0', '+', 'COUNT', 1)[1]
  if found then
    return found[2][2], tonumber(string.sub(found[1], 1, -3))
  end
end

local function is_expired(stream, offset, expired)
  local entry, at = entry_from(stream, offset)
  return at ~= offset or time_of(entry) <= expired
end

-- The oldest of the messages from `from` to `head` that is no older than is allowed, or head + 1. Times
-- grow with the offsets, but for the little that the nodes' clocks differ.
local function fresh_from(stream, from, head, expired)
  local entry, first = entry_from(stream, from)
  if not entry then
    return head + 1
  end
  if not expired or time_of(entry) > expired then
    return first
  end
  local low, high = first, head + 1
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if is_expired(stream, middle, expired) then
      low = middle
    else
      high = middle
    end
  end
  return high
end
