-- Begin the attempt of one record by its id, whatever its place. READY -> RUNNING; with allowRetry FAILED -> RUNNING.
-- An undelivered entry stays where it is: a worker that reads it finds HELD, and the settle removes it.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, id, allowRetry ('1' or '')
-- Returns a BEGUN row of begin-entries.lua, then an index error or nothing | STATE status | ABSENT | BROKEN
-- Repeat  BEGUN with the same token while it runs, STATE once it ended.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local call, leaseMs, workerId, id, allowRetry = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8] == '1'
local now = redis.call('TIME')
local record, why = readRecord(id)
if not record then return { why } end
if record.status == 'RUNNING' and record.leaseToken == string.format('%.0f', record.attempts) .. ':' .. call then
  return { 'BEGUN', id, record.entryId, record.leaseToken, string.format('%.0f', record.fence),
    string.format('%.0f', record.attempts), string.format('%.0f', record.leaseUntil), record.queueName, record.name,
    record.priority, record.enqueuedAt, record.args, record.runAfter, record.lastAttemptedAt, record.startedAt,
    record.workerIds, record.errors, string.format('%.0f', record.crashes), string.format('%.0f', record.handBacks) }
end
if record.requestId == call or not (record.status == 'READY' or (allowRetry and record.status == 'FAILED')) then
  return { 'STATE', record.status }
end
writeIndex({ 'ZREM', cellKey(record.queueName, record.name, record.status), id })
local extra = { 'runAfter', '', 'requestId', call }
if record.status == 'FAILED' then
  -- As retry.lua does.
  record.entryId, record.crashes, record.handBacks = '', 0, 0
  for _, word in ipairs({ 'finishedAt', '', 'crashes', '0', 'handBacks', '0' }) do extra[#extra + 1] = word end
  if record.leaseToken ~= '' then
    extra[#extra + 1] = 'lastMove'
    extra[#extra + 1] = 'settle ' .. record.leaseToken
  end
end
if record.entryId == '' then
  unplace(record)
  record.entryId = addEntry(record.stream, id)
  extra[#extra + 1] = 'entryId'
  extra[#extra + 1] = record.entryId
end
record.runAfter = ''
local row = startAttempt(record, now, call, leaseMs, workerId, extra)
writeIndex({ 'ZADD', cellKey(record.queueName, record.name, 'RUNNING'), record.enqueuedAt, id })
row[#row + 1] = indexError
return { unpack(row) }
