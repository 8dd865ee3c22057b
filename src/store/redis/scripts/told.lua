-- Looks through a part of what the backend was told to hold for what holds no longer, or through what holds for what it
-- was not told.
-- ARGV: prefix, what (user, room, untold-user or untold-room), where to go on (0 at first)
-- Answers {where to go on (0 at the end), names}.
local what, users, rooms = ARGV[2], prefix .. ':told:user', prefix .. ':told:room'
local set = what == 'user' and users or what == 'room' and rooms or prefix .. ':online'
if what == 'untold-room' then
  set = prefix .. ':told:occupied'
  begin_to_add()
  local told_era, seed = prefix .. ':told:era', era()
  if call('GET', told_era) ~= seed then
    -- Redis was empty, or this is new to it. All rooms are looked at once; for longer than a pass takes.
    local channels = prefix .. ':room:'
    local all = sharded == '' and 'CHANNELS' or 'SHARDCHANNELS'
    for _, channel in ipairs(call('PUBSUB', all, (string.gsub(channels, '[%*%?%[%]%^\\]', '\\%0')) .. '*')) do
      call('SADD', set, string.sub(channel, #channels + 1))
    end
    call('PEXPIRE', set, 3600000)
    call('SET', told_era, seed)
  end
end
local found = call('SSCAN', set, ARGV[3], 'COUNT', 1000)
local names = {}
for _, name in ipairs(found[2]) do
  local is_so
  if what == 'user' then
    is_so = call('SISMEMBER', prefix .. ':online', name) == 1
  elseif what == 'room' then
    is_so = listeners(prefix .. ':room:' .. name) > 0
  else
    is_so = call('SISMEMBER', what == 'untold-user' and users or rooms, name) == 1
  end
  if not is_so then
    names[#names + 1] = name
  end
end
return { found[1], names }
