-- Take over what a dead worker left, from both sides: leases that ran out, and deliveries that grew idle.
-- RUNNING -> RUNNING (crashes + 1), over the limit RUNNING -> FAILED; idle READY -> RUNNING. Mends what it passes.
-- At the limit an attempt runs alone: its token stands in `waitToken` until it says that it starts (renew.lua). One that had not
-- was not there to crash: it begins anew, uncounted.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, count, crashLimit, idleMs, crashError, stream, cursor ('-' at first)
-- Returns the next cursor ('-' when this stream's pending list is done), then rows of begin-entries.lua and CRASHED id
-- Repeat  Takes further ones; the first are in the consumer's own pending list, or run out again.
-- Memory  The first write is a ZREM, an XACK or an XCLAIM: it passes at maxmemory, and so does what follows.
local group, consumer, call, leaseMs, workerId = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local left, crashLimit, idleMs, crashError = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local stream, cursor = ARGV[11], ARGV[12]
-- Pending rows of one call.
local page = 100
local now = redis.call('TIME')
local nowMs = msOf(now)
local nowText = string.format('%.0f', nowMs)
local rows, finished = {}, {}

local function giveUp(record, crashes)
  failRecord(record, nowMs, crashError, { 'crashes', string.format('%.0f', crashes) })
  if record.watched ~= '' then finished[#finished + 1] = record.id end
  rows[#rows + 1] = { 'CRASHED', record.id }
end

local function takeOver(record)
  local waited = record.crashes >= crashLimit and record.waitToken ~= '' and record.waitToken == record.leaseToken
  local crashes = record.crashes + (waited and 0 or 1)
  if not waited and crashes > crashLimit then return giveUp(record, crashes) end
  if left == 0 then return end
  left = left - 1
  writeIndex({ 'ZREM', leases, record.id })
  local extra = { 'crashes', string.format('%.0f', crashes) }
  local kept = record.entryId ~= '' and redis.pcall('XRANGE', record.stream, record.entryId, record.entryId)
  if kept and not kept.err and #kept > 0 then
    redis.pcall('XCLAIM', record.stream, group, consumer, 0, record.entryId, 'JUSTID')
  else
    if record.entryId ~= '' then redis.pcall('XACK', record.stream, group, record.entryId) end
    record.entryId = addEntry(record.stream, record.id)
    extra[3], extra[4] = 'entryId', record.entryId
  end
  record.crashes = crashes
  if waited then
    record.attempts = record.attempts - 1
    record.workerIds = string.match(record.workerIds, '^(.*) [^ ]*$') or ''
  end
  if crashes >= crashLimit then record.waitToken = 'at the limit' end
  rows[#rows + 1] = startAttempt(record, now, call, leaseMs, workerId, extra)
end

-- The lease side. A row of a broken record is moved on, so that a hundred of them cannot hide the others.
local due = redis.pcall('ZRANGEBYSCORE', leases, '-inf', nowText, 'LIMIT', 0, 100)
if noteError(due) then due = {} end
-- Removes nothing: after a ZREM the writes below pass at maxmemory, whichever comes first.
noteError(redis.pcall('ZREM', leases, ''))
for i = 1, #due do
  local record, why = readRecord(due[i])
  if why == 'BROKEN' then
    writeIndex({ 'ZADD', leases, string.format('%.0f', nowMs + leaseMs), due[i] })
  elseif not record or record.status ~= 'RUNNING' then
    writeIndex({ 'ZREM', leases, due[i] })
  elseif record.leaseUntil > nowMs then
    writeIndex({ 'ZADD', leases, string.format('%.0f', record.leaseUntil), due[i] })
  elseif record.stream == stream then
    -- Those of other streams wait for their own call: a worker of some queues begins nothing of the others.
    takeOver(record)
  end
end

-- The idle side, one page.
local next = '-'
local pending = redis.pcall('XPENDING', stream, group, cursor, '+', page)
if pending.err then
  if string.find(pending.err, 'NOGROUP', 1, true) then
    rows[#rows + 1] = { 'NOGROUP', stream }
  else
    noteError(pending)
  end
  pending = {}
end
local streams, entryIds, ids = {}, {}, {}
for i = 1, #pending do
  local entryId, idle = pending[i][1], pending[i][3]
  if idle >= idleMs then
    local found = redis.call('XRANGE', stream, entryId, entryId)
    if #found == 0 then
      redis.call('XACK', stream, group, entryId)
    else
      local id = found[1][2][2]
      local record, why = readRecord(id)
      if why == 'BROKEN' then
        -- Left for the doctor.
      elseif not record or record.entryId ~= entryId or record.stream ~= stream or record.status == 'SUCCESSFUL'
        or record.status == 'FAILED' then
        dropEntry(stream, entryId, id)
      elseif record.status == 'RUNNING' then
        if record.leaseUntil > nowMs then
          writeIndex({ 'ZADD', leases, string.format('%.0f', record.leaseUntil), id })
        else
          takeOver(record)
        end
      elseif record.status == 'READY' then
        if left > 0 then
          left = left - 1
          redis.call('XCLAIM', stream, group, consumer, 0, entryId, 'JUSTID')
          streams[#streams + 1], entryIds[#entryIds + 1], ids[#ids + 1] = stream, entryId, id
        end
      end
    end
  end
end
if #pending == page then next = nextEntryId(pending[page][1]) end
if #ids > 0 then
  local begun = beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, false)
  for i = 1, #begun do rows[#rows + 1] = begun[i] end
end
writeCounts(nowMs)
if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
if indexError then rows[#rows + 1] = { 'INDEX', indexError } end
return { next, unpack(rows) }
