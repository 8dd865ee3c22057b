-- Where this Redis stands among the instances of REDIS_URL: which rooms are whose follows from their number and the place of
-- each. The first instance keeps the generation of the list, which grows whenever the list changes; no node runs then.
-- ARGV: prefix, its place (from 1), how many there are, which servers they are, the generation that the node knows ('' for
-- none) and the one before it, the newest one that another instance was told, the node
-- Answers {generation, the one before, '1' if rooms may lie here that are another's now}, or {'', '', why not, detail, nodes}.
local place, count, list, known, before, node = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[8]
local found = call('HMGET', log, 'layout', 'place', 'count', 'before', 'tidy', 'run', 'number', 'list')
local current, was, counted, tidy, number, listed = found[1], found[2], found[3], found[5], found[7], found[8]
local is_first = place == '1'

local function refuse(why, detail, nodes)
  return { '', '', why, detail or '', tostring(nodes or 0) }
end

-- How many other nodes are alive.
local function others(time)
  local now, live = whole(time[1] * 1000 + math.floor(time[2] / 1000)), 0
  for _, name in ipairs(call('ZRANGEBYSCORE', prefix .. ':nodes', '(' .. now, '+inf')) do
    if name ~= node then
      live = live + 1
    end
  end
  return live
end

local generation = known
if is_first then
  local newest = math.max(tonumber(current or 0), tonumber(ARGV[7]))
  local is_same = current and counted == count and listed == list
  if known ~= '' and tonumber(known) > newest then
    -- Redis has lost it: the node goes on with what it knows.
    generation = known
  elseif is_same and tonumber(current) == newest then
    generation, before = current, found[4] or ''
  elseif not current and count == '1' then
    return { '', '', '0' }
  elseif known ~= '' and current and not is_same then
    return refuse('changed', counted)
  else
    -- Another list; or this one, of which Redis has lost the newest generation.
    local time = call('TIME')
    local live = is_same and 0 or others(time)
    if live > 0 then
      return refuse('others', counted or '1', live)
    end
    before = current or ''
    generation = whole(math.max(time[1] * 1000000 + time[2], newest + 1))
  end
elseif current and tonumber(current) > tonumber(generation) then
  -- The node stood still while the list changed, or the first instance has lost that.
  return refuse('later', current)
end
if current and was ~= place then
  if current == generation then
    return refuse('twice', was)
  elseif is_first or was == '1' then
    return refuse('first', was)
  end
elseif not current and not is_first and found[6] then
  return refuse('alone')
end
if current ~= generation then
  -- Epochs hold where this list follows the one before at once, and all rooms that moved away before are forgotten.
  begin_to_delete()
  if current and (current ~= before or tidy ~= current) then
    begin_era(tonumber(number or 0))
  end
  call('HSET', log, 'layout', generation, 'place', place, 'count', count, 'before', before, 'list', list)
end
return { generation, before, tidy == generation and '0' or '1' }
