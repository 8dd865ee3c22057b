-- What the scripts share that write or remove webhooks.

-- The fields of an entry of a stream, by their names.
local function fields_of(item)
  local fields = {}
  for at = 1, #item[2], 2 do
    fields[item[2][at]] = item[2][at + 1]
  end
  return fields
end

-- Removes a webhook that waits.
local function remove_webhook(stream, number)
  local key, hooks = prefix .. ':hook:' .. stream, prefix .. ':hooks'
  if call('XDEL', key, number .. '-0') == 0 then
    return 0
  end
  call('HINCRBY', prefix .. ':hooks:state', 'pending', -1)
  call('ZREM', prefix .. ':hooks:droppable', number .. ':' .. stream)
  local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if first then
    call('ZADD', hooks, string.sub(first[1], 1, -3), stream)
  else
    call('DEL', key)
    call('ZREM', hooks, stream)
  end
  return 1
end

-- Adds a webhook at the end of its stream, as outbox.rs packs it: the stream (16 letters), how many may wait, and what
-- is kept. If too many wait, the oldest that may be dropped makes way.
local function add_webhook(packed, number, is_droppable, entry, offset, epoch)
  local stream, most, after = struct.unpack('>c16I8', packed)
  local key, state = prefix .. ':hook:' .. stream, prefix .. ':hooks:state'
  local kept = string.sub(packed, after)
  number = whole(number)
  if entry then
    call('XADD', key, number .. '-0', 'w', kept, 'e', entry, 'o', whole(tonumber(offset)), 'p', epoch)
  else
    call('XADD', key, number .. '-0', 'w', kept)
  end
  call('ZADD', prefix .. ':hooks', 'NX', number, stream)
  call('SADD', prefix .. ':hooks:changed', stream)
  if is_droppable then
    call('ZADD', prefix .. ':hooks:droppable', number, number .. ':' .. stream)
  end
  local excess = call('HINCRBY', state, 'pending', 1) - most
  if excess > 0 then
    for _, oldest in ipairs(call('ZRANGE', prefix .. ':hooks:droppable', 0, math.min(excess, 100) - 1)) do
      local place, of = string.match(oldest, '^(%d+):(%x+)$')
      remove_webhook(of, place)
      call('HINCRBY', state, 'dropped', 1)
    end
  end
end

-- Gives a webhook up: it is kept for a while, but not tried any more.
local function fail_webhook(stream, number, why, most)
  local found = call('XRANGE', prefix .. ':hook:' .. stream, number .. '-0', number .. '-0')[1]
  if not found then
    return 0
  end
  local fields = found[2]
  fields[#fields + 1] = 's'
  fields[#fields + 1] = stream
  fields[#fields + 1] = 'x'
  fields[#fields + 1] = why
  fields[#fields + 1] = 'd'
  fields[#fields + 1] = call('ZSCORE', prefix .. ':hooks:droppable', number .. ':' .. stream) and '1' or '0'
  call('XADD', prefix .. ':hooks:failed', 'MAXLEN', '=', most, '*', unpack(fields))
  call('HINCRBY', prefix .. ':hooks:state', 'failed', 1)
  return remove_webhook(stream, number)
end

-- Whether this node is the one that delivers.
local function delivers(holder)
  return call('GET', prefix .. ':claim:\31webhooks') == holder
end
