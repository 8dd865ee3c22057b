-- Removes a revocation.
-- ARGV: prefix, id
-- Answers 1, or 0 if there is none.
begin_to_delete()
if call('HDEL', prefix .. ':revoked', ARGV[2]) == 0 then
  return 0
end
call('ZREM', prefix .. ':revoked:order', ARGV[2])
call('ZREM', prefix .. ':revoked:ends', ARGV[2])
-- Every node reads all of them anew.
call('HINCRBY', prefix .. ':revoked:state', 'epoch', 1)
return 1
