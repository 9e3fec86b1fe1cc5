-- Put failed records back by a person's wish. FAILED -> READY, due at once; errors and attempts stay.
-- KEYS    leases
-- ARGV    root, group, requestId, then ids (at most 100)
-- Returns RETRIED | the status it has | ABSENT | BROKEN for each, then an index error or nothing
-- Repeat  RETRIED, whatever the record did since.
-- Memory  Refused whole at maxmemory: the first write is an XADD.
local requestId = ARGV[3]
local answers, todo, seen = {}, {}, {}
for i = 4, #ARGV do
  local record, why = readRecord(ARGV[i])
  if not record then
    answers[#answers + 1] = why
  elseif record.requestId == requestId or seen[record.id] then
    answers[#answers + 1] = 'RETRIED'
  elseif record.status == 'FAILED' then
    seen[record.id] = true
    todo[#todo + 1] = record
    answers[#answers + 1] = 'RETRIED'
  else
    answers[#answers + 1] = record.status
  end
end
local now = redis.call('TIME')
local nowMs = msOf(now)
for i = 1, #todo do
  local record = todo[i]
  record.runAfter = ''
  local entryId = place(record, nowMs)
  -- The next attempt takes the place of the token that ended this one: a settle that is sent again is told by the last move then.
  if record.leaseToken ~= '' then
    redis.call('HSET', recordKey(record.id), 'leaseToken', '', 'lastMove', 'settle ' .. record.leaseToken)
  end
  -- Cancelled before its first attempt it has errors and no fence, and a record without one is begun without a look at its history.
  if record.fence == 0 then redis.call('HSET', recordKey(record.id), 'fence', '0', 'attempts', '0') end
  redis.call('HSET', recordKey(record.id), 'status', 'READY', 'entryId', entryId, 'requestId', requestId,
    'runAfter', '', 'finishedAt', '', 'crashes', '0', 'handBacks', '0')
  writeIndex({ 'ZREM', cellKey(record.queueName, record.name, 'FAILED'), record.id })
  writeIndex({ 'ZADD', cellKey(record.queueName, record.name, 'READY'), record.enqueuedAt, record.id })
end
answers[#answers + 1] = indexError
return { unpack(answers) }
