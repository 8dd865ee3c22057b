-- Stores the webhook of a message that is kept nowhere else.
-- ARGV: prefix, the webhook
begin_to_add()
era()
add_webhook(ARGV[2], call('HINCRBY', log, 'number', 1), false)
return 1
