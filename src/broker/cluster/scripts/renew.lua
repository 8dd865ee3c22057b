-- Prolongs a node's lease.
-- KEYS: nodes. ARGV: node, how long (ms).
-- Returns: whether the lease had run out (or was never there), the live nodes, the dead ones.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local lapsed = (not before or tonumber(before) <= now) and 1 or 0
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local live = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
return {lapsed, live, dead}
