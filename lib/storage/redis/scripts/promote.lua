-- Give due delayed records their entry. READY -> READY.
-- KEYS    leases
-- ARGV    root, group, queueName
-- Returns how many were moved (at most 100), then the ms until the next one is due, or '' when there is none
-- Repeat  Moves what is due by then, nothing twice.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local queueName = ARGV[3]
local delayed = delayedKey(queueName)
local now = redis.call('TIME')
local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', string.format('%.0f', nowMs), 'LIMIT', 0, 100)
local leave, later, moved = { 'ZREM', delayed }, { 'ZADD', delayed }, {}
for i = 1, #due do
  local id = due[i]
  local record, why = readRecord(id)
  if why == 'BROKEN' then
    -- Moved on by a minute, so that a hundred broken records cannot hide those behind them.
    later[#later + 1] = string.format('%.0f', nowMs + 60000)
    later[#later + 1] = id
  elseif not record or record.status ~= 'READY' or record.entryId ~= '' or record.queueName ~= queueName then
    leave[#leave + 1] = id
  elseif (tonumber(record.runAfter) or 0) > nowMs then
    later[#later + 1] = record.runAfter
    later[#later + 1] = id
  else
    leave[#leave + 1] = id
    moved[#moved + 1] = record
  end
end
if #leave > 2 then redis.call(unpack(leave)) end
if #later > 2 then redis.call(unpack(later)) end
for i = 1, #moved do
  redis.call('HSET', recordKey(moved[i].id), 'entryId', redis.call('XADD', moved[i].stream, '*', 'id', moved[i].id))
end
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local wait = first[2] and string.format('%.0f', math.max(tonumber(first[2]) - nowMs, 0)) or ''
return { #moved, wait }
