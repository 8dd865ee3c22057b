-- Ends the graces that are over: each user by exactly one node.
-- KEYS: departures, online. ARGV: the prefix of users' keys, how many at most, for how many seconds to remember when a user was last active.
-- Returns: how long until the next grace ends (ms; -1: there is none), then user, last active (ms), rooms (JSON) of each
-- that has gone offline.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = {}
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local key = ARGV[1] .. user
  redis.call('ZREM', KEYS[1], user)
  if redis.call('SREM', KEYS[2], user) == 1 then
    local known = redis.call('HMGET', key, 'active', 'rooms')
    gone[#gone + 1] = user
    gone[#gone + 1] = known[1] or '0'
    gone[#gone + 1] = known[2] or '[]'
  end
  redis.call('HDEL', key, 'status', 'rooms')
  redis.call('EXPIRE', key, ARGV[3])
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
table.insert(gone, 1, next[2] and math.max(0, next[2] - now) or -1)
return gone
