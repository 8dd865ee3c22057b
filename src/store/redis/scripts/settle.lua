-- Ends the time in which the mark of the last node's leave may still be on the disk. A Redis that came back with it once
-- more would pass for complete, whatever was stored since.
-- ARGV: prefix, run of Redis, '1' if the disk knows that the mark is gone; else no old epoch can be trusted
if call('HGET', log, 'resumed') == ARGV[2] then
  call('HDEL', log, 'resumed')
  if ARGV[3] ~= '1' then
    call('HSET', log, 'base', begin_era(tonumber(call('HGET', log, 'number'))))
  end
end
return redis.status_reply('OK')
