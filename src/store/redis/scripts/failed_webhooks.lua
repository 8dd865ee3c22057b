-- Reads webhooks that were given up.
-- ARGV: prefix, the place behind which to begin, most of them, most bytes (-1: only their places and ids)
-- Answers {place, what is kept, entry (''), offset (''), epoch (''), why} of each, or {place, the beginning of what is kept}.
local most, bytes, page = tonumber(ARGV[4]), 0, {}
for _, item in ipairs(call('XRANGE', prefix .. ':hooks:failed', '(' .. ARGV[2], '+', 'COUNT', ARGV[3])) do
  local fields = fields_of(item)
  if most < 0 then
    page[#page + 1] = { item[1], string.sub(fields.w, 1, 12 + struct.unpack('>I4', fields.w, 9)) }
  else
    bytes = bytes + #fields.w + #(fields.e or '')
    if bytes > most and #page > 0 then
      break
    end
    page[#page + 1] = { item[1], fields.w, fields.e or '', fields.o or '', fields.p or '', fields.x }
  end
end
return page
