-- What a node does first on each connection, so that it comes to light if Redis has lost something: a
-- restarted Redis may know less than it had acknowledged.
-- ARGV: prefix, this run of Redis, the run that the node last checked in to, the newest number it has seen
local run, known_run, seen = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not call('HGET', log, 'seed') then
  begin_era(seen)
end
local found = call('HMGET', log, 'number', 'run', 'base')
local number, base = tonumber(found[1]), tonumber(found[3] or 0)
if found[2] ~= run then
  base = number
  call('HSET', log, 'run', run, 'base', whole(base))
end
if known_run ~= '' and known_run ~= run and seen > base then
  call('HSET', log, 'base', begin_era(math.max(seen, number)))
end
return redis.status_reply('OK')
