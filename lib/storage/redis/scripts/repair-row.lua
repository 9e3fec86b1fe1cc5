-- Mend one row of an index that its record does not bear out: removed, or its score corrected.
-- A record that cannot be read keeps its rows, and one whose place is in doubt too: that is for repair-record.lua.
-- KEYS    leases
-- ARGV    root, group, id, the kind of index (cell, delayed or lease), then queueName, name, status as far as its key has them
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  The first write is a ZREM, or the ZADD of a row that is there.
local id, kind, queueName = ARGV[3], ARGV[4], ARGV[5]
local now = redis.call('TIME')
local key = kind == 'cell' and cellKey(queueName, ARGV[6], ARGV[7]) or kind == 'delayed' and delayedKey(queueName) or leases
local score = redis.pcall('ZSCORE', key, id)
if type(score) ~= 'string' then return 'FINE' end
local record, why = readRecord(id)
if why == 'BROKEN' then return 'FINE' end
local isRight, rightScore = false, nil
if record and kind == 'cell' then
  isRight = cellKey(record.queueName, record.name, record.status) == key
elseif record and kind == 'lease' then
  isRight = record.status == 'RUNNING'
  if record.leaseUntil > 0 then rightScore = string.format('%.0f', record.leaseUntil) end
elseif record then
  isRight = record.status == 'READY' and record.queueName == queueName
  local nowMs = msOf(now)
  local isDue = whole(record.runAfter) <= nowMs
  -- A due record waits here at most a minute, while its stream cannot be written (place.lua).
  if record.entryId == '' and not (isDue and tonumber(score) <= nowMs + 60000) then
    rightScore = isDue and string.format('%.0f', nowMs) or record.runAfter
  end
end
if not isRight then
  redis.call('ZREM', key, id)
  return 'MENDED'
end
if rightScore and tonumber(rightScore) ~= tonumber(score) then
  redis.call('ZADD', key, rightScore, id)
  return 'MENDED'
end
return 'FINE'
