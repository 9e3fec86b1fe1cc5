-- Walk the key names of the server, one step: those that hold the name of this backend, with type and lifetime. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, cursor, how many names to look at, pattern
-- Returns the next cursor, and a list of name, type and ms to live for each key; type '' and -1 ms for records, which are
--         looked at one by one, and for keys that are not below the root
-- Repeat  The same step, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local root, record = ARGV[1], recordKey('')
local step = redis.call('SCAN', ARGV[3], 'MATCH', ARGV[5], 'COUNT', ARGV[4])
local found = {}
for i = 1, #step[2] do
  local key = step[2][i]
  local kind, ttl = '', -1
  if string.sub(key, 1, #root) == root and string.sub(key, 1, #record) ~= record then
    kind, ttl = redis.call('TYPE', key).ok, redis.call('PTTL', key)
  end
  local last = #found
  found[last + 1], found[last + 2], found[last + 3] = key, kind, string.format('%.0f', ttl)
end
return { step[1], found }
