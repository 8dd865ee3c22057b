-- Reads a part of a room's log.
-- ARGV: prefix, room, history size, newest time that is too old, offset after which to read, most
-- messages, most bytes, '1' for receipts too
-- Answers {head, oldest, epoch, entries from the first one's offset on, first offset, receipts of each,
-- who is left out of each}.
local head, oldest, current, receipts = position()
local from = math.max(oldest, ARGV[5] + 1)
local limit, most = tonumber(ARGV[6]), tonumber(ARGV[7])
local entries, left_out, bytes, at = {}, {}, 0, from
while at <= head and #entries < limit do
  -- A few at a time, as messages may be large.
  local items = call('XRANGE', stream, whole(at) .. '-0', '+', 'COUNT', math.min(16, limit - #entries))
  if #items == 0 then
    break
  end
  for _, item in ipairs(items) do
    local entry = item[2][2]
    bytes = bytes + size_of(entry)
    -- A gap (somebody has deleted a part) ends the page, as offsets are consecutive.
    if item[1] ~= whole(at) .. '-0' or (bytes > most and #entries > 0) then
      limit = 0
      break
    end
    entries[#entries + 1] = entry
    left_out[#entries] = item[2][4] or ''
    at = at + 1
  end
end
local read = {}
if ARGV[8] == '1' then
  for offset = from, math.min(at - 1, receipts) do
    read[#read + 1] = call('HGETALL', prefix .. ':receipts:' .. room .. '\31' .. whole(offset))
  end
end
return { head, oldest, current, entries, from, read, left_out }
