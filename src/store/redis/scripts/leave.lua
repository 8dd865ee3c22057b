-- A node leaves in order: it writes nothing from now on. The last one leaves a mark: everything that was ever acknowledged
-- is there.
-- ARGV: prefix, run of Redis, the name of the node's connections, '1' to leave the mark, then names and counts of nodes
-- that are gone
-- Answers 1 if this is the last node, and then has left the mark if it was asked to.
local node, marks = ARGV[3], ARGV[4] == '1'
local nodes = prefix .. ':log:nodes'
if call('HGET', log, 'run') ~= ARGV[2] or call('HEXISTS', nodes, node) == 0 then
  return 0
end
for at = 5, #ARGV, 2 do
  -- One that came back meanwhile has another count.
  if call('HGET', nodes, ARGV[at]) == ARGV[at + 1] then
    call('HDEL', nodes, ARGV[at])
  end
end
call('HSET', nodes, node, 'left')
for _, state in ipairs(call('HVALS', nodes)) do
  if state ~= 'left' then
    return 0
  end
end
if marks then
  call('DEL', nodes)
  call('HSET', log, 'clean', call('HGET', log, 'number'))
end
return 1
