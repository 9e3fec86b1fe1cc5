-- Write outcomes: record, index, lease, acknowledgement and deletion of the entry. RUNNING -> SUCCESSFUL, FAILED, READY.
-- KEYS    leases
-- ARGV    root, group, then the words of settle-items.lua (at most 100 items)
-- Returns the answer of settle-items.lua
-- Repeat  All are settled, by the record's last move, also when it has begun anew since.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local now = redis.call('TIME')
return settleItems(3, #ARGV, now)
