-- Mark a record that somebody waits for, so that the script which ends it sends a message.
-- KEYS    leases
-- ARGV    root, group, id
-- Returns WATCHED | FINISHED | ABSENT | BROKEN
-- Repeat  WATCHED or FINISHED; nothing else changes.
-- Memory  The first write is a ZREM of nothing: it passes at maxmemory, and so does what follows.
local record = recordKey(ARGV[3])
local status = redis.pcall('HGET', record, 'status')
if type(status) == 'table' then return 'BROKEN' end
if type(status) ~= 'string' then return 'ABSENT' end
if status == 'SUCCESSFUL' or status == 'FAILED' then return 'FINISHED' end
redis.pcall('ZREM', leases, '')
redis.call('HSET', record, 'watched', '1')
return 'WATCHED'
