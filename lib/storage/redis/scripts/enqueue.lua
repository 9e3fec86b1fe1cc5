-- Store records, each with its index row and its place. (nothing) -> READY.
-- KEYS    leases
-- ARGV    root, group, then id, queueName, name, priority, runAfter, args for each (at most 1000)
-- Returns ENQUEUED enqueuedAt | EXISTS '' for each, then an index error or nothing
-- Repeat  EXISTS; the caller reads the record and answers with it.
-- Memory  Refused whole at maxmemory: the first write is a SADD or an XADD.
local group = ARGV[2]
local now = redis.call('TIME')
local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
local nowText = string.format('%.0f', nowMs)
local answers, new, seen = {}, {}, {}
for i = 3, #ARGV, 6 do
  local id = ARGV[i]
  if seen[id] or redis.call('EXISTS', recordKey(id)) == 1 then
    answers[#answers + 1] = 'EXISTS'
    answers[#answers + 1] = ''
  else
    seen[id] = true
    new[#new + 1] = i
    answers[#answers + 1] = 'ENQUEUED'
    answers[#answers + 1] = nowText
  end
end
local function isNew(key, member)
  local added = redis.pcall('SADD', key, member)
  return noteError(added) or added == 1
end
local cells, delayed = {}, {}
for k = 1, #new do
  local i = new[k]
  local id, queueName, name, priority, runAfter = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local pair = queueName .. ':' .. name
  local cell = cells[pair]
  if not cell then
    if isNew(cellsKey, pair) and isNew(queuesKey, queueName) and group ~= '' then
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'high'), group, '0', 'MKSTREAM')
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'normal'), group, '0', 'MKSTREAM')
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'low'), group, '0', 'MKSTREAM')
    end
    cell = { 'ZADD', cellKey(queueName, name, 'READY') }
    cells[pair] = cell
  end
  local due, entryId = whole(runAfter) <= nowMs, ''
  if due then entryId = addEntry(streamKey(queueName, priority), id) end
  if entryId == '' then
    -- Its time has not come, or its stream cannot be written (place.lua).
    local rows = delayed[queueName] or { 'ZADD', delayedKey(queueName) }
    delayed[queueName] = rows
    rows[#rows + 1] = due and string.format('%.0f', nowMs + 60000) or runAfter
    rows[#rows + 1] = id
  end
  if runAfter == '' then
    redis.call('HSET', recordKey(id), 'id', id, 'queueName', queueName, 'name', name, 'priority', priority,
      'status', 'READY', 'enqueuedAt', nowText, 'entryId', entryId, 'args', ARGV[i + 5])
  else
    redis.call('HSET', recordKey(id), 'id', id, 'queueName', queueName, 'name', name, 'priority', priority,
      'status', 'READY', 'enqueuedAt', nowText, 'entryId', entryId, 'args', ARGV[i + 5], 'runAfter', runAfter)
  end
  local last = #cell
  cell[last + 1], cell[last + 2] = nowText, id
end
writeIndex(delayed)
writeIndex(cells)
answers[#answers + 1] = indexError
return { unpack(answers) }
