-- Gives the turn back, if the node has it, and says so.
-- KEYS: the turn. ARGV: node, the channel on which all nodes listen, what is said there.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return 0
