-- Ends what a node has left behind: its users' entries, some of them at a time.
-- KEYS: nodes, the node's users, departures, online.
-- ARGV: the node, the prefix of users' keys, the grace (ms), whether to do it even if the lease still runs, how many users,
--       for how many seconds to remember when a user was last active.
-- Returns: how many users are left; -1 where the lease runs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[4] == '0' and lease and tonumber(lease) > now then return -1 end
for _, user in ipairs(redis.call('SPOP', KEYS[2], ARGV[5])) do
  local key = ARGV[2] .. user
  local rooms = redis.call('HGET', key, 'r:' .. ARGV[1])
  redis.call('HDEL', key, 'n:' .. ARGV[1], 'r:' .. ARGV[1])
  local here = false
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 2) == 'n:' then here = true end
  end
  if not here and redis.call('SISMEMBER', KEYS[4], user) == 1 then
    if rooms then redis.call('HSET', key, 'rooms', rooms) end
    redis.call('ZADD', KEYS[3], 'NX', now + ARGV[3], user)
  elseif not here then
    redis.call('EXPIRE', key, ARGV[6])
  end
end
local left = redis.call('SCARD', KEYS[2])
if left == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return left
