-- Write what a record's owner may change. Not RUNNING -> the same state; a READY record moves where priority and time say.
-- KEYS    leases
-- ARGV    root, group, id, then field, value pairs of: priority, runAfter ('' = due at once), args in all their pieces (args-pieces.ts)
-- Returns SAVED | RUNNING | ABSENT | BROKEN, then an index error or nothing
-- Repeat  SAVED with the same values; the last writer wins.
-- Memory  Refused at maxmemory: the first write is a ZADD, an XADD or an HSET. The new place is made before the old one goes.
local id = ARGV[3]
local now = redis.call('TIME')
local nowMs = msOf(now)
local record, why = readRecord(id)
if not record then return { why } end
if record.status == 'RUNNING' then return { 'RUNNING' } end
local changed = { priority = record.priority, runAfter = record.runAfter, queueName = record.queueName, id = id }
local fields, given = {}, {}
for i = 4, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if changed[field] then changed[field] = value end
  given[field] = true
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
if given.args then
  for _, field in ipairs({ 'args2', 'args3', 'args4' }) do
    if not given[field] then redis.call('HDEL', recordKey(id), field) end
  end
end
return { 'SAVED', indexError }
