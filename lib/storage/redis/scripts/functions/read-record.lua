-- The fields that the rarer moves need, as a table with '' for what is missing. Otherwise nil and ABSENT or BROKEN.
local function readRecord(id)
  local v = redis.pcall('HMGET', recordKey(id), 'status', 'entryId', 'leaseToken', 'attempts', 'fence', 'queueName', 'name',
    'priority', 'enqueuedAt', 'workerIds', 'startedAt', 'crashes', 'runAfter', 'leaseUntil', 'lastMove', 'args',
    'requestId', 'errors', 'handBacks', 'watched', 'lastAttemptedAt', 'cancelId',
    'unknownSince', 'args2', 'waitToken')
  if v.err then return nil, 'BROKEN' end
  for i = 1, 25 do
    if type(v[i]) ~= 'string' then v[i] = '' end
  end
  if v[1] == '' and v[6] == '' and v[7] == '' then return nil, redis.call('EXISTS', recordKey(id)) == 1 and 'BROKEN' or 'ABSENT' end
  if v[1] == '' or v[6] == '' or v[7] == '' then return nil, 'BROKEN' end
  local fence = whole(v[5])
  local attempts = attemptsMade(v[4], fence)
  local lastAttemptedAt = attemptedAt(v[21], attempts, fence)
  return {
    id = id, status = v[1], entryId = v[2], leaseToken = v[3], attempts = attempts, fence = fence,
    queueName = v[6], name = v[7], priority = v[8] ~= '' and v[8] or '0', enqueuedAt = scoreOf(v[9]), workerIds = v[10],
    startedAt = v[11] ~= '' and v[11] or lastAttemptedAt, crashes = whole(v[12]), runAfter = v[13], leaseUntil = whole(v[14]), lastMove = v[15],
    args = joinArgs(recordKey(id), v[16], v[24]), requestId = v[17], errors = v[18], handBacks = whole(v[19]), watched = v[20],
    lastAttemptedAt = lastAttemptedAt, cancelId = v[22], unknownSince = v[23], waitToken = v[25], stream = streamKey(v[6], v[8]),
  }
end
