-- Find pending rows without an entry, among a hundred at most. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, stream, the entry id to begin at ('-' at first)
-- Returns the next entry id ('' at the end), how many rows were looked at, then entry id and consumer of each row without entry
-- Repeat  The same, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local stream = ARGV[3]
local pending = redis.pcall('XPENDING', stream, ARGV[2], ARGV[4], '+', 100)
if pending.err then return { '', '0' } end
local answers = { '', string.format('%.0f', #pending) }
for i = 1, #pending do
  if #redis.call('XRANGE', stream, pending[i][1], pending[i][1]) == 0 then
    answers[#answers + 1] = pending[i][1]
    answers[#answers + 1] = pending[i][2]
  end
end
if #pending == 100 then answers[1] = nextEntryId(pending[100][1]) end
return { unpack(answers) }
