-- Reads revocations in the order in which they were added.
-- ARGV: prefix, the epoch that is known, the version after which to read, how many at most
-- Answers {epoch, version of the last one read or the newest, 1 if there are more, revocations}.
local found = call('HMGET', prefix .. ':revoked:state', 'epoch', 'version')
local epoch, version, limit = found[1] or '0', found[2] or '0', tonumber(ARGV[4])
local after = epoch == ARGV[2] and ARGV[3] or '0'
local ids = call('ZRANGE', prefix .. ':revoked:order', '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
local read = {}
for place = 1, #ids, 2 do
  read[#read + 1] = call('HGET', prefix .. ':revoked', ids[place])
end
local more = #ids == 2 * limit
return { epoch, tonumber(more and ids[#ids] or version), more and 1 or 0, read }
