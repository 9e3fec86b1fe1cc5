-- Read undelivered entries, stream by stream, and begin their attempts. READY -> RUNNING. From Redis 6.0 on.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, count, then the streams in the order they are emptied
-- Returns rows of begin-entries.lua, then NOGROUP stream for each stream without its group, INDEX text for an index error
-- Repeat  Takes further entries; those of the first call are in the consumer's own pending list.
-- Memory  The first write is XREADGROUP: it passes at maxmemory, and so does what follows.
local now = redis.call('TIME')
local rows, failed = takeEntries(8, ARGV[7], ARGV[2], ARGV[3], now, ARGV[4], tonumber(ARGV[5]), ARGV[6])
if failed then return redis.error_reply(failed) end
return { unpack(rows) }
