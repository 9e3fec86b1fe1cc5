-- Remove an entry that its record does not name, with its pending row, or a pending row whose entry is gone.
-- KEYS    leases
-- ARGV    root, group, stream, entryId
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  Nothing here needs memory: the writes are XACK and XDEL.
local stream, entryId = ARGV[3], ARGV[4]
local found = redis.pcall('XRANGE', stream, entryId, entryId)
if found.err then return 'FINE' end
if #found == 0 then
  local acknowledged = redis.pcall('XACK', stream, ARGV[2], entryId)
  return acknowledged == 1 and 'MENDED' or 'FINE'
end
local fields = found[1][2]
if fields[1] == 'id' then
  local record, why = readRecord(fields[2])
  if why == 'BROKEN' then return 'FINE' end
  if record and namesEntry(record.entryId, record.stream, stream, entryId, record.id) then return 'FINE' end
end
dropEntry(stream, entryId, fields[2])
return 'MENDED'
