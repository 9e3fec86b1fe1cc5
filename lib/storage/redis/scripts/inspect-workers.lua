-- Read the two keys of workers: the row with the last heartbeat, and the hash of its fields. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, then consumers (at most 100)
-- Returns for each its heartbeat in ms ('' where there is no row, '!' of a key of a wrong type) and the type of its other key
-- Repeat  The same, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local answers = {}
for i = 3, #ARGV do
  local seen = redis.pcall('ZSCORE', workersKey, ARGV[i])
  answers[#answers + 1] = type(seen) == 'table' and '!' or seen or ''
  answers[#answers + 1] = redis.call('TYPE', workerKey(ARGV[i])).ok
end
return { unpack(answers) }
