-- Stores an announcement, and what it says to hold from now on or no longer. What was told already is not told again,
-- and nothing is told that is not so any more: who made it so tells it.
-- ARGV: prefix, the webhook ('' for none), what it is about ('', node, user or room), its name, '1' if it begins to hold
-- Answers 1, or 0 if there was nothing to tell.
local kind, name, holds = ARGV[3], ARGV[4], ARGV[5] == '1'
begin_to_add()
if kind == 'user' and (call('SISMEMBER', prefix .. ':online', name) == 1) ~= holds then
  return 0
end
if kind == 'room' and not holds then
  if listeners(prefix .. ':room:' .. name) > 0 then
    return 0
  end
  -- Where the last member on another node has left meanwhile, that node tells it when it is time: five seconds later,
  -- less what the writing down of it may have taken.
  local left, time = call('HGET', prefix .. ':told:left', name), call('TIME')
  if left and time[1] * 1000 + math.floor(time[2] / 1000) < left + 4000 then
    return 0
  end
  call('HDEL', prefix .. ':told:left', name)
end
if kind == 'node' and not holds and ARGV[2] == '' then
  -- It stops in order; it may be seen among the others for some moments yet.
  call('SET', prefix .. ':told:left:' .. name, '', 'PX', 120000)
end
if kind ~= '' and call(holds and 'SADD' or 'SREM', prefix .. ':told:' .. kind, name) == 0 then
  return 0
end
if ARGV[2] ~= '' then
  era()
  add_webhook(ARGV[2], call('HINCRBY', log, 'number', 1), true)
end
return 1
