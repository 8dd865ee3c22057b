-- Deletes a room's messages from `first` up to before `keep`, with all that belongs to them; no message
-- beyond `receipts` has receipts.
local function trim(room, first, keep, receipts)
  local stream, ids = prefix .. ':stream:' .. room, prefix .. ':ids:' .. room
  local until_id = whole(keep - 1) .. '-0'
  local at = first
  while at < keep do
    -- A few at a time, as messages may be large.
    local items = call('XRANGE', stream, whole(at) .. '-0', until_id, 'COUNT', 16)
    if #items == 0 then
      break
    end
    for _, item in ipairs(items) do
      local offset, id = string.sub(item[1], 1, -3), id_of(item[2][2])
      if call('HGET', ids, id) == offset then
        call('HDEL', ids, id)
      end
      at = tonumber(offset) + 1
    end
  end
  for offset = first, math.min(keep - 1, receipts) do
    call('UNLINK', prefix .. ':receipts:' .. room .. '\31' .. whole(offset))
  end
  call('XTRIM', stream, 'MINID', '=', whole(keep) .. '-0')
  call('HSET', prefix .. ':meta:' .. room, 'f', whole(keep))
end
