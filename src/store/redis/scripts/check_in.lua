-- What a node does first on each connection, so that it comes to light if Redis has lost something: a
-- restarted Redis may know less than it had acknowledged.
-- ARGV: prefix, this run of Redis, the run that the node last checked in to ('' for none), the newest
-- number it has seen, the name of the node's connections, '1' if a part of the keys may have been left elsewhere
-- Answers 1 if the node must make sure that Redis has this on its disk, and settle it (settle.lua); else 0.
local run, known_run, seen, node = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local nodes = prefix .. ':log:nodes'
if not call('HGET', log, 'seed') then
  begin_era(seen)
end
local found = call('HMGET', log, 'number', 'run', 'base', 'clean', 'resumed')
local number, base, clean, resumed = tonumber(found[1]), tonumber(found[3] or 0), found[4], found[5]
local first = found[2] ~= run
if first then
  base = number
  call('HSET', log, 'run', run, 'base', whole(base))
  -- Nobody is connected to the run before any more.
  call('DEL', nodes)
end
if clean then
  -- From now on there may be more than the mark says.
  call('HDEL', log, 'clean')
  call('HSET', log, 'resumed', run)
  resumed = run
end
-- Somebody has seen more than there was when this run began: that was lost. Or the one who comes first
-- knows nothing of the time before, so nobody can tell, unless the last node left in order and this is all
-- that there was.
local lost = ARGV[6] == '1' or known_run ~= '' and known_run ~= run and seen > base
local unknown = known_run == '' and first and found[2] and clean ~= found[1]
if lost or unknown then
  call('HSET', log, 'base', begin_era(math.max(seen, number)))
  call('HDEL', log, 'resumed')
  resumed = nil
end
call('HSET', nodes, node, call('HINCRBY', log, 'checkins', 1))
return resumed == run and 1 or 0
