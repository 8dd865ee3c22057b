-- Writes which clients a user has on a node.
-- KEYS: the user, the node's users, online, departures.
-- ARGV: node, user, its clients (separated by blanks; none: it has gone from the node), when it was last active (ms),
--       the rooms in which it is seen (JSON), its new status (or nothing), the grace (ms),
--       whether the node had written the user before (if Redis knows nothing of it all the same, Redis came back empty,
--       and that the user is online is no news), for how many seconds to remember when it was last active.
-- Returns: 1 if the user has come online by this, 2 if its last client on any node has gone, else 0.
local field = 'n:' .. ARGV[1]
local emptied = ARGV[8] == '1' and redis.call('HEXISTS', KEYS[1], 'active') == 0
if tonumber(ARGV[4]) > tonumber(redis.call('HGET', KEYS[1], 'active') or '0') then
  redis.call('HSET', KEYS[1], 'active', ARGV[4])
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], field, ARGV[3], 'r:' .. ARGV[1], ARGV[5])
  redis.call('PERSIST', KEYS[1])
  redis.call('SADD', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[4], ARGV[2])
  local came = redis.call('SADD', KEYS[3], ARGV[2]) == 1 and not emptied
  if came then redis.call('HDEL', KEYS[1], 'status') end
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'status', ARGV[6]) end
  return came and 1 or 0
end
redis.call('HDEL', KEYS[1], field, 'r:' .. ARGV[1])
redis.call('SREM', KEYS[2], ARGV[2])
for _, other in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(other, 1, 2) == 'n:' then return 0 end
end
if emptied then redis.call('SADD', KEYS[3], ARGV[2]) end
if redis.call('SISMEMBER', KEYS[3], ARGV[2]) == 0 then
  -- Nobody heard of it: only when it was last active is remembered.
  redis.call('EXPIRE', KEYS[1], ARGV[9])
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'rooms', ARGV[5])
redis.call('ZADD', KEYS[4], 'NX', now + ARGV[7], ARGV[2])
return 2
