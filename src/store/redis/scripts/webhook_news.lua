-- The streams that have got webhooks, for the node that delivers.
-- ARGV: prefix, node, most of them
if not delivers(ARGV[2]) then
  return {}
end
return call('SPOP', prefix .. ':hooks:changed', ARGV[3])
