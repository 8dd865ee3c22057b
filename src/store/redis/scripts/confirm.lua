-- Removes a user's queued messages up to and with a place; answers how many.
-- ARGV: prefix, user, place
local up_to = tonumber(ARGV[3])
return remove_while(ARGV[2], function(item)
  return tonumber(string.sub(item[1], 1, -3)) <= up_to
end)
