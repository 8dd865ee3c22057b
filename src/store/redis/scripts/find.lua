-- The offset of the newest readable message with an id, or nothing.
-- ARGV: prefix, room, history size, newest time that is too old, id
return find(ARGV[5])
