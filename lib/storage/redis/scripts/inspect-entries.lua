-- Read entries of a stream, a hundred at most, each with the record that it names. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, stream, the entry id to begin at ('-' at first)
-- Returns the next entry id ('' at the end), then for each entry its id, the record's id ('' where it names none), NAMED when
--         that record owns it, PENDING when it is on a pending list (looked at only where it is not
--         named), and the record as look-up.lua has it
-- Repeat  The same, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local stream = ARGV[3]
local entries = redis.pcall('XRANGE', stream, ARGV[4], '+', 'COUNT', 100)
if entries.err then return { '' } end
local rows = { '' }
for i = 1, #entries do
  local entryId, fields = entries[i][1], entries[i][2]
  local id = fields[1] == 'id' and string.sub(fields[2], 1, 200) or ''
  local record = lookUp(id)
  local isNamed = namesEntry(record[4], streamKey(record[2], record[7]), stream, entryId, id)
  local isPending = false
  if not isNamed then
    local pending = redis.pcall('XPENDING', stream, ARGV[2], entryId, entryId, 1)
    isPending = not pending.err and #pending > 0
  end
  rows[#rows + 1] = { entryId, id, isNamed and 'NAMED' or '', isPending and 'PENDING' or '', unpack(record) }
end
if #entries == 100 then rows[1] = nextEntryId(entries[100][1]) end
return { unpack(rows) }
