-- What a node does first on each connection, so that it comes to light if Redis has lost something: a
-- restarted Redis may know less than it had acknowledged.
-- ARGV: prefix, this run of Redis, the run that the node last checked in to ('' for none), the newest
-- number it has seen
local run, known_run, seen = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not call('HGET', log, 'seed') then
  begin_era(seen)
end
local found = call('HMGET', log, 'number', 'run', 'base')
local number, base = tonumber(found[1]), tonumber(found[3] or 0)
local first = found[2] ~= run
if first then
  base = number
  call('HSET', log, 'run', run, 'base', whole(base))
end
-- Somebody has seen more than there was when this run began: that was lost. Or the one who comes first
-- knows nothing of the time before, so nobody can tell.
local lost = known_run ~= '' and known_run ~= run and seen > base
local unknown = known_run == '' and first and found[2]
if lost or unknown then
  call('HSET', log, 'base', begin_era(math.max(seen, number)))
end
return redis.status_reply('OK')
