-- Has webhooks that were given up tried again, or forgets them.
-- ARGV: prefix, how many may wait, now (ms), '1' if they are tried again, then their places
-- Answers how many there were.
if ARGV[4] == '1' then
  begin_to_add()
else
  begin_to_delete()
end
local failed, count = prefix .. ':hooks:failed', 0
for at = 5, #ARGV do
  local found = call('XRANGE', failed, ARGV[at], ARGV[at])[1]
  if found then
    count = count + 1
    if ARGV[4] == '1' then
      local fields = fields_of(found)
      era()
      add_webhook(
        fields.s .. struct.pack('>I8i8', ARGV[2], ARGV[3]) .. string.sub(fields.w, 9),
        call('HINCRBY', log, 'number', 1), fields.d == '1', fields.e, fields.o, fields.p)
    end
    call('XDEL', failed, ARGV[at])
  end
end
return count
