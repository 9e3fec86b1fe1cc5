-- Writes a new attempt on one record and answers the BEGUN row of begin-entries.lua. `extra`: further fields to set.
-- The caller has made the first write (one that passes at maxmemory) and moves the cell.
local function startAttempt(record, now, call, leaseMs, workerId, extra)
  local format = string.format
  local nowMs = msOf(now)
  local nowText, untilText = format('%.0f', nowMs), format('%.0f', nowMs + leaseMs)
  local attempts = format('%.0f', record.attempts + 1)
  local fence = format('%.0f', math.max(record.fence + 1, now[1] * 1000000 + now[2]))
  local token = attempts .. ':' .. call
  local workerIds = record.workerIds == '' and workerId or (record.workerIds .. ' ' .. workerId)
  local startedAt = record.startedAt == '' and nowText or record.startedAt
  -- At its limit of crashes it waits to run alone, each time.
  if record.waitToken ~= '' then
    extra[#extra + 1] = 'waitToken'
    extra[#extra + 1] = token
  end
  redis.call('HSET', recordKey(record.id), 'status', 'RUNNING', 'leaseToken', token, 'leaseUntil', untilText, 'fence', fence,
    'attempts', attempts, 'workerIds', workerIds, 'startedAt', startedAt, 'lastAttemptedAt', nowText, unpack(extra))
  writeIndex({ 'ZADD', leases, untilText, record.id })
  return { 'BEGUN', record.id, record.entryId, token, fence, attempts, untilText, record.queueName, record.name,
    record.priority, record.enqueuedAt, record.args, record.runAfter, nowText, startedAt, workerIds, record.errors,
    format('%.0f', record.crashes), format('%.0f', record.handBacks) }
end
