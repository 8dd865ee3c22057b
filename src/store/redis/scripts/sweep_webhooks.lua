-- Gives up what is too old, and forgets what was given up long ago, a bounded part of it.
-- ARGV: prefix, newest time of a webhook that is too old, newest time of giving up that is, most that are kept of those
-- given up
local old = tonumber(ARGV[2])
begin_to_delete()
local more = 0
for _, stream in ipairs(call('ZRANGE', prefix .. ':hooks', 0, 99)) do
  local first = call('XRANGE', prefix .. ':hook:' .. stream, '-', '+', 'COUNT', 1)[1]
  if not first then
    call('ZREM', prefix .. ':hooks', stream)
  elseif struct.unpack('>i8', first[2][2]) <= old then
    fail_webhook(stream, string.sub(first[1], 1, -3), 'it could not be tried in time', ARGV[4])
    more = 1
  end
end
call('XTRIM', prefix .. ':hooks:failed', 'MINID', '=', ARGV[3] .. '-0')
return more
