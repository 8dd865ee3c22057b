-- Claims the turn, or keeps it.
-- KEYS: the turn. ARGV: node, how long (ms), what the nodes' own channels begin with.
-- Returns: the node that has it.
-- A node that has it listens on a channel of its own: when that connection ends, the turn is free at once.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and redis.call('PUBSUB', 'NUMSUB', ARGV[3] .. holder)[2] > 0 then
  return holder
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
