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
local cells, delayed, known = {}, {}, {}
for k = 1, #new do
  local i = new[k]
  local id, queueName, name, priority, runAfter = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local cell = cells[queueName .. ':' .. name]
  if not cell then
    local pair = queueName .. ':' .. name
    if redis.call('SADD', cellsKey, pair) == 1 and redis.call('SADD', queuesKey, queueName) == 1 and group ~= '' then
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'high'), group, '0', 'MKSTREAM')
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'normal'), group, '0', 'MKSTREAM')
      redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'low'), group, '0', 'MKSTREAM')
    end
    cell = { 'ZADD', cellKey(queueName, name, 'READY') }
    cells[pair] = cell
  end
  local entryId = ''
  if runAfter ~= '' and tonumber(runAfter) > nowMs then
    local rows = delayed[queueName] or { 'ZADD', delayedKey(queueName) }
    delayed[queueName] = rows
    rows[#rows + 1] = runAfter
    rows[#rows + 1] = id
  else
    entryId = redis.call('XADD', streamKey(queueName, priority), '*', 'id', id)
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
