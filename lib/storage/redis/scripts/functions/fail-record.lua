-- READY or RUNNING -> FAILED for a reason that no attempt threw: `reason` is a JSON object, `extra` further fields to set. The
-- token is gone, so a settle that is still on its way answers LOST. The first write is a ZREM, which passes at maxmemory.
local function failRecord(record, nowMs, reason, extra)
  local nowText = string.format('%.0f', nowMs)
  local line = '{"at":' .. nowText .. ',"attempt":' .. string.format('%.0f', record.attempts) .. ',' .. string.sub(reason, 2)
  writeIndex({ 'ZREM', leases, record.id })
  writeIndex({ 'ZREM', cellKey(record.queueName, record.name, record.status), record.id })
  unplace(record)
  redis.call('HDEL', recordKey(record.id), 'entryId', 'leaseToken', 'leaseUntil', 'waitToken')
  redis.call('HSET', recordKey(record.id), 'status', 'FAILED', 'finishedAt', nowText, 'errors',
    record.errors == '' and line or (record.errors .. '\n' .. line), unpack(extra))
  writeIndex({ 'ZADD', cellKey(record.queueName, record.name, 'FAILED'), record.enqueuedAt, record.id })
  if record.status == 'RUNNING' then
    countIn(record.queueName, 'FAILED', nowMs - (tonumber(record.lastAttemptedAt) or nowMs), 1)
  end
end
