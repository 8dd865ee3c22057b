-- How many webhooks wait, how many were dropped and given up, and what is kept of the oldest one that waits ('').
-- ARGV: prefix
local state = call('HMGET', prefix .. ':hooks:state', 'pending', 'dropped', 'failed')
local oldest = call('ZRANGE', prefix .. ':hooks', 0, 0)[1]
local first = oldest and call('XRANGE', prefix .. ':hook:' .. oldest, '-', '+', 'COUNT', 1)[1]
local function number(text)
  return tonumber(text or 0)
end
return { number(state[1]), number(state[2]), number(state[3]), first and string.sub(first[2][2], 1, 8) or '' }
