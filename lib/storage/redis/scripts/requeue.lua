-- Hand attempts back. RUNNING -> READY, the attempt not counted; or READY -> READY for an entry that was not begun.
-- RUNNING -> FAILED where a limit is given for how long nobody may know the task.
-- KEYS    leases
-- ARGV    root, group, growing ('1': due after min(60 s, 250 ms x 2^handBacks); '<ms> <error, a JSON object>': the same, and
--         FAILED with that error so long after the first of them without an attempt between), then id, token, entryId for
--         each (at most 100); token '' names a delivery that was not begun
-- Returns REQUEUED | FAILED | LOST | BROKEN for each, then an index error or nothing
-- Repeat  REQUEUED or FAILED, by the record's last move; without a token LOST, which the caller ignores.
-- Memory  The first write is a ZREM or an XACK: it passes at maxmemory, and so does what follows.
local growing = ARGV[3] ~= ''
local limitMs, reason = string.match(ARGV[3], '^(%d+) (.*)$')
local now = redis.call('TIME')
local nowMs = msOf(now)
local answers, finished = {}, {}

-- When the run of hand-backs began that this one continues; an attempt that was settled, or a retry, begins another.
local function unknownSince(record)
  local attempts, since = string.match(record.unknownSince, '^(%d+):(%d+)$')
  return record.handBacks > 0 and attempts and whole(attempts) == record.attempts and whole(since) or nowMs
end

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
    local attempts = math.max(record.attempts - 1, 0)
    local workerIds = string.match(record.workerIds, '^(.*) [^ ]*$') or ''
    local since = growing and unknownSince(record)
    if limitMs and nowMs - since >= tonumber(limitMs) then
      record.attempts = attempts
      failRecord(record, nowMs, reason, { 'attempts', string.format('%.0f', attempts), 'workerIds', workerIds,
        'lastMove', 'unknown ' .. token })
      if record.watched ~= '' then finished[#finished + 1] = id end
      answer = 'FAILED'
    else
      writeIndex({ 'ZREM', cellKey(record.queueName, record.name, 'RUNNING'), id })
      writeIndex({ 'ZREM', leases, id })
      unplace(record)
      local extra = {}
      if growing then
        extra = { 'unknownSince', string.format('%.0f:%.0f', record.attempts, since) }
        record.runAfter = string.format('%.0f', nowMs + math.min(60000, 250 * 2 ^ record.handBacks))
        record.handBacks = record.handBacks + 1
      end
      redis.call('HSET', recordKey(id), 'status', 'READY', 'leaseToken', '', 'lastMove', 'requeue ' .. token,
        'entryId', place(record, nowMs), 'attempts', string.format('%.0f', attempts), 'workerIds', workerIds,
        'runAfter', record.runAfter, 'handBacks', string.format('%.0f', record.handBacks), unpack(extra))
      writeIndex({ 'ZADD', cellKey(record.queueName, record.name, 'READY'), record.enqueuedAt, id })
      answer = 'REQUEUED'
    end
    if attempts == 0 then redis.call('HDEL', recordKey(id), 'startedAt', 'lastAttemptedAt') end
  elseif record.lastMove == 'requeue ' .. token then
    answer = 'REQUEUED'
  elseif record.lastMove == 'unknown ' .. token then
    answer = 'FAILED'
  end
  answers[#answers + 1] = answer
end
writeCounts(nowMs)
if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
answers[#answers + 1] = indexError
return { unpack(answers) }
