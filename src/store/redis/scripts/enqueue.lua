-- Queues a message for a user.
-- ARGV: prefix, user, queue size, newest time that is too old, entry, sender (may be missing)
-- Answers its place, or -1: the queue or the sender's tenth of it is full.
local user, size, entry, sender = ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[6]
local queue, senders = prefix .. ':queue:' .. user, prefix .. ':senders:' .. user
expire(user, tonumber(ARGV[4]))
local count = call('XLEN', queue)
if count >= size then
  return -1
end
if sender and tonumber(call('HGET', senders, sender) or 0) >= math.ceil(size / 10) then
  return -1
end
era()
local number = call('HINCRBY', log, 'number', 1)
if sender then
  call('XADD', queue, whole(number) .. '-0', 'e', entry, 's', sender)
  call('HINCRBY', senders, sender, 1)
else
  call('XADD', queue, whole(number) .. '-0', 'e', entry)
end
if count == 0 then
  call('ZADD', prefix .. ':queues', whole(time_of(entry)), user)
end
return number
