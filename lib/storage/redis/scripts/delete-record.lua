-- Delete records that are not RUNNING, with their index row and their place.
-- KEYS    leases
-- ARGV    root, group, then ids (at most 100)
-- Returns DELETED | RUNNING | ABSENT | BROKEN for each, then an index error or nothing
-- Repeat  ABSENT, which the caller may take for deleted.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local answers, gone = {}, {}
for i = 3, #ARGV do
  local record, why = readRecord(ARGV[i])
  if not record then
    answers[#answers + 1] = why
  elseif record.status == 'RUNNING' then
    answers[#answers + 1] = 'RUNNING'
  else
    writeIndex({ 'ZREM', cellKey(record.queueName, record.name, record.status), record.id })
    if record.status == 'READY' then unplace(record) end
    redis.call('DEL', recordKey(record.id))
    if record.watched ~= '' then gone[#gone + 1] = record.id end
    answers[#answers + 1] = 'DELETED'
  end
end
if #gone > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(gone, ' ')) end
answers[#answers + 1] = indexError
return { unpack(answers) }
