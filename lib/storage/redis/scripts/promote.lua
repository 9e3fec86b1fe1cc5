-- Give due delayed records their entry. READY -> READY.
-- KEYS    leases
-- ARGV    root, group, queueName
-- Returns how many were moved (at most 100), then the ms until the next one is due, or '' when there is none,
--         then an index error or nothing
-- Repeat  Moves what is due by then, nothing twice.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local queueName = ARGV[3]
local delayed = delayedKey(queueName)
local now = redis.call('TIME')
local nowMs = msOf(now)
-- What cannot be moved is looked at again in a minute, so that a hundred of them cannot hide those behind them.
local inAMinute = string.format('%.0f', nowMs + 60000)
local due = redis.pcall('ZRANGEBYSCORE', delayed, '-inf', string.format('%.0f', nowMs), 'LIMIT', 0, 100)
if noteError(due) then return { 0, '', indexError } end
-- The '' is no member: with it a ZREM comes first, whatever was found.
local leave, later, moved = { 'ZREM', delayed, '' }, { 'ZADD', delayed }, 0
local records = {}
for i = 1, #due do
  local id = due[i]
  local record, why = readRecord(id)
  if why == 'BROKEN' then
    later[#later + 1] = inAMinute
    later[#later + 1] = id
  elseif not record or record.status ~= 'READY' or record.entryId ~= '' or record.queueName ~= queueName then
    leave[#leave + 1] = id
  elseif whole(record.runAfter) > nowMs then
    later[#later + 1] = record.runAfter
    later[#later + 1] = id
  else
    leave[#leave + 1] = id
    records[#records + 1] = record
  end
end
if #due > 0 then writeIndex(leave) end
for i = 1, #records do
  local id = records[i].id
  local entryId = addEntry(records[i].stream, id)
  if entryId == '' then
    later[#later + 1] = inAMinute
    later[#later + 1] = id
  else
    redis.call('HSET', recordKey(id), 'entryId', entryId)
    moved = moved + 1
  end
end
if #later > 2 then writeIndex(later) end
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local wait = first[2] and string.format('%.0f', math.max(tonumber(first[2]) - nowMs, 0)) or ''
return { moved, wait, indexError }
