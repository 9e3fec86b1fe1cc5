-- Remove what is left of a worker that has one of its two keys only. One that lives writes both with its next heartbeat.
-- KEYS    leases
-- ARGV    root, group, consumer
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  The writes are ZREM or DEL.
local seen = redis.pcall('ZSCORE', workersKey, ARGV[3])
if type(seen) == 'table' then return 'FINE' end
local hasRow = type(seen) == 'string'
local kind = redis.call('TYPE', workerKey(ARGV[3])).ok
if hasRow and kind == 'none' then
  redis.call('ZREM', workersKey, ARGV[3])
  return 'MENDED'
end
if not hasRow and kind == 'hash' then
  redis.call('DEL', workerKey(ARGV[3]))
  return 'MENDED'
end
return 'FINE'
