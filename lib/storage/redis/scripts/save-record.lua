-- Write what a record's owner may change. Not RUNNING -> the same state; a READY record moves where priority and time say.
-- KEYS    leases
-- ARGV    root, group, id, then field, value pairs of: priority, runAfter ('' = due at once), args
-- Returns SAVED | RUNNING | ABSENT | BROKEN, then an index error or nothing
-- Repeat  SAVED with the same values; the last writer wins.
-- Memory  Refused at maxmemory: the first write is a ZADD, an XADD or an HSET. The new place is made before the old one goes.
local id = ARGV[3]
local now = redis.call('TIME')
local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
local record, why = readRecord(id)
if not record then return { why } end
if record.status == 'RUNNING' then return { 'RUNNING' } end
local changed = { priority = record.priority, runAfter = record.runAfter, queueName = record.queueName, id = id }
local fields, oldPieces = {}, { 'HDEL', recordKey(id) }
for i = 4, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if changed[field] then changed[field] = value end
  if field == 'args' then
    local first, more = cutArgs(value)
    value = first
    for k = 1, #more do fields[#fields + 1] = more[k] end
    for piece = #more / 2 + 2, 4 do oldPieces[#oldPieces + 1] = 'args' .. piece end
  end
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
if #fields == 0 then return { 'SAVED' } end
if record.status == 'READY' then
  changed.stream = streamKey(record.queueName, changed.priority)
  local due = whole(changed.runAfter) <= nowMs
  local stays = record.entryId ~= '' and due and changed.stream == record.stream
  if not stays then
    local entryId = place(changed, nowMs)
    -- From `delayed` to `delayed` the row only got its new score.
    if record.entryId ~= '' or entryId ~= '' then unplace(record) end
    fields[#fields + 1] = 'entryId'
    fields[#fields + 1] = entryId
  end
end
redis.call('HSET', recordKey(id), unpack(fields))
if #oldPieces > 2 then redis.call(unpack(oldPieces)) end
return { 'SAVED', indexError }
