-- Say that a worker is alive and what it does.
-- KEYS    leases
-- ARGV    root, group, consumer, then field, value pairs
-- Returns KEPT
-- Repeat  The same, with a later time.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local consumer = ARGV[3]
local now = redis.call('TIME')
redis.call('ZREM', workersKey, consumer)
redis.call('ZADD', workersKey, string.format('%.0f', msOf(now)), consumer)
redis.call('DEL', workerKey(consumer))
if #ARGV > 3 then redis.call('HSET', workerKey(consumer), unpack(ARGV, 4)) end
return 'KEPT'
