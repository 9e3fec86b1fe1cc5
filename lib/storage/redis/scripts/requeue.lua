-- Hand attempts back. RUNNING -> READY, the attempt not counted; or READY -> READY for an entry that was not begun.
-- KEYS    leases
-- ARGV    root, group, growing ('1': due after min(60 s, 250 ms x 2^handBacks)), then id, token, entryId for each
--         (at most 100); token '' names a delivery that was not begun
-- Returns REQUEUED | LOST | BROKEN for each, then an index error or nothing
-- Repeat  REQUEUED, by the record's last move; without a token LOST, which the caller ignores.
-- Memory  The first write is a ZREM or an XACK: it passes at maxmemory, and so does what follows.
local growing = ARGV[3] == '1'
local now = redis.call('TIME')
local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
local answers = {}
for i = 4, #ARGV, 3 do
  local id, token, entryId = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local record, why = readRecord(id)
  local answer = 'LOST'
  if not record then
    if why == 'BROKEN' then answer = why end
  elseif token == '' then
    if record.status == 'READY' and entryId ~= '' and record.entryId == entryId then
      unplace(record)
      redis.call('HSET', recordKey(id), 'entryId', place(record, nowMs))
      answer = 'REQUEUED'
    end
  elseif record.status == 'RUNNING' and record.leaseToken == token then
    writeIndex({ { 'ZREM', cellKey(record.queueName, record.name, 'RUNNING'), id } })
    writeIndex({ { 'ZREM', leases, id } })
    unplace(record)
    if growing then
      record.runAfter = string.format('%.0f', nowMs + math.min(60000, 250 * 2 ^ record.handBacks))
      record.handBacks = record.handBacks + 1
    end
    local attempts = math.max(record.attempts - 1, 0)
    redis.call('HSET', recordKey(id), 'status', 'READY', 'leaseToken', '', 'lastMove', 'requeue ' .. token,
      'entryId', place(record, nowMs), 'attempts', string.format('%.0f', attempts),
      'workerIds', string.match(record.workerIds, '^(.*) [^ ]*$') or '', 'runAfter', record.runAfter,
      'handBacks', string.format('%.0f', record.handBacks))
    if attempts == 0 then redis.call('HDEL', recordKey(id), 'startedAt', 'lastAttemptedAt') end
    writeIndex({ { 'ZADD', cellKey(record.queueName, record.name, 'READY'), record.enqueuedAt, id } })
    answer = 'REQUEUED'
  elseif record.lastMove == 'requeue ' .. token then
    answer = 'REQUEUED'
  end
  answers[#answers + 1] = answer
end
answers[#answers + 1] = indexError
return { unpack(answers) }
