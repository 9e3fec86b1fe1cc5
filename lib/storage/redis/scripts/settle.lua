-- Write outcomes: record, index, lease, acknowledgement and deletion of the entry. RUNNING -> SUCCESSFUL, FAILED, READY.
-- KEYS    leases
-- ARGV    root, group, then id, token, outcome, payload, delayMs for each (at most 100)
-- Returns SETTLED | LOST | BROKEN for each, then an index error or nothing
-- Repeat  SETTLED, by the record's last move, also when it has begun anew since.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local now = redis.call('TIME')
local answers = settleItems(3, #ARGV, now)
answers[#answers + 1] = indexError
return { unpack(answers) }
