-- Reads a user's queue.
-- ARGV: prefix, user, newest time that is too old, place after which to read, most messages, most bytes
-- Answers {how many wait, {place, entry, place, entry, ...}}.
local user, limit, most = ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6])
local queue = prefix .. ':queue:' .. user
begin_to_delete()
expire(user, tonumber(ARGV[3]))
local read, bytes, after = {}, 0, tonumber(ARGV[4])
while #read < 2 * limit do
  local items = call('XRANGE', queue, whole(after + 1) .. '-0', '+', 'COUNT', math.min(16, limit - #read / 2))
  if #items == 0 then
    break
  end
  for _, item in ipairs(items) do
    bytes = bytes + size_of(item[2][2])
    if bytes > most and #read > 0 then
      limit = 0
      break
    end
    after = tonumber(string.sub(item[1], 1, -3))
    read[#read + 1] = after
    read[#read + 1] = item[2][2]
  end
end
return { call('XLEN', queue), read }
