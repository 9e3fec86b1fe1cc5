-- Give a key that is no record the lifetime that its kind has: none, or so many seconds where it has none.
-- KEYS    leases
-- ARGV    root, group, key, seconds ('' = it never expires)
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  Nothing here needs memory.
local key, seconds = ARGV[3], ARGV[4]
if seconds == '' then return redis.call('PERSIST', key) == 1 and 'MENDED' or 'FINE' end
if redis.call('PTTL', key) ~= -1 then return 'FINE' end
redis.call('EXPIRE', key, seconds)
return 'MENDED'
