-- Make the group of a stream that lacks it, from the start: every entry is handed out anew, and judged by its record.
-- KEYS    leases
-- ARGV    root, group, stream
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  Refused at maxmemory: XGROUP CREATE needs memory, as an XADD does.
if redis.call('TYPE', ARGV[3]).ok ~= 'stream' then return 'FINE' end
local reply = redis.pcall('XGROUP', 'CREATE', ARGV[3], ARGV[2], '0')
if not reply.err then return 'MENDED' end
if string.find(reply.err, 'BUSYGROUP', 1, true) then return 'FINE' end
return redis.error_reply(reply.err)
