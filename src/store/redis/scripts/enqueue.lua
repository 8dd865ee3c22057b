-- Queues a message for a user.
-- ARGV: prefix, user, queue size, newest time that is too old, entry, most messages of a sender in all
-- queues (0: any number), their most bytes, for how many milliseconds messages are kept (0: for ever), the key if it
-- happens once (''; the caller has claimed it), the webhook that tells of it (''), sender (may be missing)
-- Answers its place, or what is known of the key, or a refusal: -1, the queue or the sender's tenth of it is full, or -2, too much of the
-- sender waits in all queues.
local user, size, entry, sender = ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[11]
local queue, senders = prefix .. ':queue:' .. user, prefix .. ':senders:' .. user
local once = once_of(ARGV[9])
local past = once and known_once(once)
if past and past ~= -4 then
  return past
end
begin_to_add()
expire(user, tonumber(ARGV[4]))
local count = call('XLEN', queue)
if count >= size then
  return -1
end
if sender and tonumber(call('HGET', senders, sender) or 0) >= math.ceil(size / 10) then
  return -1
end
if sender and is_used_up(sender, size_of(entry), tonumber(ARGV[6]), tonumber(ARGV[7])) then
  -- Perhaps only by what is too old and was not deleted yet.
  expire_oldest(tonumber(ARGV[4]))
  if is_used_up(sender, size_of(entry), tonumber(ARGV[6]), tonumber(ARGV[7])) then
    return -2
  end
end
era()
local number = call('HINCRBY', log, 'number', 1)
if sender then
  call('XADD', queue, whole(number) .. '-0', 'e', entry, 's', sender)
  call('HINCRBY', senders, sender, 1)
  note_sent(sender, 1, size_of(entry), tonumber(ARGV[8]))
else
  call('XADD', queue, whole(number) .. '-0', 'e', entry)
end
if count == 0 then
  call('ZADD', prefix .. ':queues', whole(time_of(entry)), user)
end
if once then
  remember_once(once, number, sender or '')
end
if ARGV[10] ~= '' then
  add_webhook(ARGV[10], number, false)
end
return number
