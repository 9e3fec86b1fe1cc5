-- Begin the attempts of entries that were read outside a script. READY -> RUNNING; own: also RUNNING -> RUNNING.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, own ('1' or ''), then stream, entryId, id for each (at most 100)
-- Returns rows of begin-entries.lua, then INDEX text for an index error
-- Repeat  BEGUN with the same token; nothing is written.
-- Memory  The first write is a ZREM (or an XACK): it passes at maxmemory, and so does what follows.
local call, leaseMs, workerId, own = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local streams, entryIds, ids = {}, {}, {}
for i = 8, #ARGV, 3 do
  streams[#streams + 1], entryIds[#entryIds + 1], ids[#ids + 1] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
end
local now = redis.call('TIME')
local rows = beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, own)
if indexError then rows[#rows + 1] = { 'INDEX', indexError } end
return { unpack(rows) }
