-- End records by a person's wish. READY -> FAILED; RUNNING -> FAILED: its token is gone, and whoever runs it is told.
-- KEYS    leases
-- ARGV    root, group, requestId, error (a JSON object), then ids (at most 100)
-- Returns CANCELLED | the status it has | ABSENT | BROKEN for each, then an index error or nothing
-- Repeat  CANCELLED, whatever the record did since.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local requestId, reason = ARGV[3], ARGV[4]
local now = redis.call('TIME')
local nowMs = msOf(now)
local answers, finished, stopped = {}, {}, {}
for i = 5, #ARGV do
  local record, why = readRecord(ARGV[i])
  if not record then
    answers[#answers + 1] = why
  elseif record.cancelId == requestId then
    answers[#answers + 1] = 'CANCELLED'
  elseif record.status == 'READY' or record.status == 'RUNNING' then
    local extra = { 'cancelId', requestId }
    if record.status == 'RUNNING' then
      -- By this a renewal knows why the token is gone.
      extra[3], extra[4] = 'lastMove', 'cancel ' .. record.leaseToken
      stopped[#stopped + 1] = record.id .. ' ' .. record.leaseToken
    end
    failRecord(record, nowMs, reason, extra)
    if record.watched ~= '' then finished[#finished + 1] = record.id end
    answers[#answers + 1] = 'CANCELLED'
  else
    answers[#answers + 1] = record.status
  end
end
writeCounts(nowMs)
if #stopped > 0 then redis.pcall('PUBLISH', cancelledChannel, table.concat(stopped, ' ')) end
if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
answers[#answers + 1] = indexError
return { unpack(answers) }
