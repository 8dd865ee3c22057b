-- Compares the nodes that are alive with those that the backend was told of.
-- ARGV: prefix
-- Answers {those that are new, those that are lost}.
local time = call('TIME')
local now = whole(time[1] * 1000 + math.floor(time[2] / 1000))
local told, started, lost = prefix .. ':told:node', {}, {}
begin_to_delete()
for _, node in ipairs(call('ZRANGEBYSCORE', prefix .. ':nodes', '(' .. now, '+inf')) do
  if call('SISMEMBER', told, node) == 0 and call('EXISTS', prefix .. ':told:left:' .. node) == 0 then
    started[#started + 1] = node
  end
end
for _, node in ipairs(call('SMEMBERS', told)) do
  local lease = call('ZSCORE', prefix .. ':nodes', node)
  if not lease or tonumber(lease) <= tonumber(now) then
    lost[#lost + 1] = node
  end
end
return { started, lost }
