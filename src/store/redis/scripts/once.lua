-- What the scripts share that are about writes that happen once. A key is remembered as the content that it belongs
-- to (16 bytes), p while its write is under way, d when it is done, or b where another instance knows; of one that is done
-- follow its number (8 bytes) and the answer.

-- Such a write, as idempotency.rs packs it; nil if it does not happen once.
local function once_of(packed)
  if packed == '' then
    return nil
  end
  local name, content, kept, most, after = struct.unpack('>c32c16I8I4', packed)
  return {
    name = name,
    content = content,
    -- For how many milliseconds it is remembered or claimed, and how many keys its sender may have.
    kept = whole(kept),
    most = most,
    answer = string.sub(packed, after),
  }
end

-- What is known of a key: nil, or its number and answer, or -3 if it belongs to other content, or -4 if its write is
-- under way.
local function known_once(once)
  local known = call('GET', prefix .. ':once:' .. once.name)
  if not known then
    return nil
  end
  if string.sub(known, 1, 16) ~= once.content then
    return -3
  end
  local state = string.sub(known, 17, 17)
  if state == 'p' then
    return -4
  elseif state == 'b' then
    return nil
  end
  return { (struct.unpack('>I8', known, 18)), string.sub(known, 26) }
end

-- Counts a key as one of its sender's. Of one sender the oldest is forgotten if there are too many.
local function count_key(once, sender)
  local own = prefix .. ':keys:' .. sender
  if call('RPUSH', own, once.name) > once.most then
    call('UNLINK', prefix .. ':once:' .. call('LPOP', own))
  end
  call('PEXPIRE', own, once.kept)
end

-- Remembers the key of a write that was done.
local function remember_once(once, number, sender)
  local value = once.content .. 'd' .. struct.pack('>I8', number) .. once.answer
  call('SET', prefix .. ':once:' .. once.name, value, 'PX', once.kept)
  count_key(once, sender)
end
