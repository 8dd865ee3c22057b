-- Stores a revocation.
-- ARGV: prefix, id, when it is over, the revocation, most revocations, now
-- Answers 1, or 0 if there are as many as there may be.
local revoked, order, ends = prefix .. ':revoked', prefix .. ':revoked:order', prefix .. ':revoked:ends'
local state = prefix .. ':revoked:state'
begin_to_add()
for _, over in ipairs(call('ZRANGE', ends, '-inf', ARGV[6], 'BYSCORE', 'LIMIT', 0, 100)) do
  call('HDEL', revoked, over)
  call('ZREM', order, over)
  call('ZREM', ends, over)
end
if call('HLEN', revoked) >= tonumber(ARGV[5]) then
  return 0
end
local time = call('TIME')
call('HSETNX', state, 'epoch', whole(time[1] * 1000000 + time[2]))
call('HSET', revoked, ARGV[2], ARGV[4])
call('ZADD', order, call('HINCRBY', state, 'version', 1), ARGV[2])
call('ZADD', ends, ARGV[3], ARGV[2])
return 1
