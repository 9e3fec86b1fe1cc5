-- Bring what belongs to one record in line with it: its cell, its place, its lease, its lists, its lifetime.
-- The record is the truth: its state and its payloads stay as they are.
-- KEYS    leases
-- ARGV    root, group, id, retentionMs
-- Returns ABSENT | BROKEN | MENDED, then the invariants that were broken and hold now
-- Repeat  MENDED alone: nothing is broken any more.
-- Memory  Refused at maxmemory where something has to be added: the first write may be a SADD, a ZADD or an XADD.
local id, retentionMs = ARGV[3], tonumber(ARGV[4])
local record, why = readRecord(id)
if not record then return { why } end
local isFinal = record.status == 'SUCCESSFUL' or record.status == 'FAILED'
if not isFinal and record.status ~= 'READY' and record.status ~= 'RUNNING' then return { 'BROKEN' } end
local now = redis.call('TIME')
local nowMs = msOf(now)
local answers, mended = { 'MENDED' }, {}
local function mend(invariant)
  if not mended[invariant] then answers[#answers + 1] = invariant end
  mended[invariant] = true
end
local function scoreIn(key)
  local score = redis.pcall('ZSCORE', key, id)
  return type(score) == 'string' and tonumber(score) or nil
end
local function put(key, score, invariant)
  if not noteError(redis.pcall('ZADD', key, score, id)) then mend(invariant) end
end
local function set(invariant, ...)
  redis.call('HSET', recordKey(id), ...)
  mend(invariant)
end
-- An entry made without the group is handed out all the same once the group is there: from the start.
local function ensureGroup() redis.pcall('XGROUP', 'CREATE', record.stream, ARGV[2], '0') end

if redis.pcall('SADD', queuesKey, record.queueName) == 1 then mend('I12') end
if redis.pcall('SADD', cellsKey, record.queueName .. ':' .. record.name) == 1 then mend('I12') end
local cell = cellKey(record.queueName, record.name, record.status)
if scoreIn(cell) ~= tonumber(record.enqueuedAt) then put(cell, record.enqueuedAt, 'I3') end

local state, usable = entryState(record.stream, record.entryId, id)
local isAlive = state == 'UNDELIVERED' or state == 'PENDING'
if record.status == 'READY' then
  if record.leaseToken ~= '' then set('I4', 'leaseToken', '') end
  local delayed = delayedKey(record.queueName)
  local isDelayed = scoreIn(delayed) ~= nil
  if isAlive and isDelayed then
    writeIndex({ 'ZREM', delayed, id })
    mend('I4')
  elseif not isAlive and (record.entryId ~= '' or not isDelayed) then
    local old = record.entryId
    local entryId = place(record, nowMs)
    if entryId ~= '' then
      ensureGroup()
      writeIndex({ 'ZREM', delayed, id })
    end
    if entryId ~= '' or scoreIn(delayed) then set('I4', 'entryId', entryId) end
    if state == 'ACKNOWLEDGED' then writeIndex({ 'XDEL', record.stream, old }) end
  end
elseif record.status == 'RUNNING' then
  local leaseUntil = record.leaseUntil
  if record.leaseToken == '' or leaseUntil == 0 then leaseUntil = nowMs end
  if record.leaseToken == '' then
    -- Nobody holds such a token: nobody can settle by it, and the attempt is taken over as that of a dead worker.
    set('I5', 'leaseToken', string.format('%.0f', record.attempts) .. ':doctor.' .. string.format('%.0f', nowMs))
  end
  if record.fence < 1 then set('I5', 'fence', string.format('%.0f', now[1] * 1000000 + now[2])) end
  local deadline = string.format('%.0f', leaseUntil)
  if leaseUntil ~= record.leaseUntil then set('I5', 'leaseUntil', deadline) end
  if scoreIn(leases) ~= leaseUntil then put(leases, deadline, 'I5') end
  if not isAlive and usable then
    local old = record.entryId
    local entryId = addEntry(record.stream, id)
    if entryId ~= '' then
      ensureGroup()
      set('I5', 'entryId', entryId)
      if state == 'ACKNOWLEDGED' then writeIndex({ 'XDEL', record.stream, old }) end
    end
  end
else
  if state ~= 'NONE' then
    unplace(record)
    set('I6', 'entryId', '')
  end
end

local ttl = redis.call('PTTL', recordKey(id))
if ttl >= 0 then
  local finishedAt = whole(redis.call('HGET', recordKey(id), 'finishedAt') or '')
  if not isFinal or ttl < retentionMs - (nowMs - (finishedAt > 0 and finishedAt or nowMs)) then
    redis.call('PERSIST', recordKey(id))
    mend('I11')
  end
end
return { unpack(answers) }
