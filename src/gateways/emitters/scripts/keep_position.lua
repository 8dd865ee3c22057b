-- Keeps how far the stream has been read, if the node has the turn.
-- KEYS: the turn, the position. ARGV: node, position.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2])
return 1
