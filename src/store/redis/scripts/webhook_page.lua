-- Reads the first webhooks of a stream.
-- ARGV: prefix, stream, most of them, most bytes
-- Answers {number, what is kept, entry (''), offset (''), epoch ('')} of each.
local most, bytes, page = tonumber(ARGV[4]), 0, {}
for _, item in ipairs(call('XRANGE', prefix .. ':hook:' .. ARGV[2], '-', '+', 'COUNT', ARGV[3])) do
  local fields = item[2]
  bytes = bytes + #fields[2] + #(fields[4] or '')
  if bytes > most and #page > 0 then
    break
  end
  page[#page + 1] = { tonumber(string.sub(item[1], 1, -3)), fields[2], fields[4] or '', fields[6] or '', fields[8] or '' }
end
return page
