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
local answers, new, seen, records = {}, {}, {}, {}
for i = 3, #ARGV, 6 do records[#records + 1] = recordKey(ARGV[i]) end
-- Asked once for all: a batch hardly ever holds an id that is there, and a call of EXISTS is a tenth of an enqueue.
local someExist = #records > 0 and redis.call('EXISTS', unpack(records)) > 0
for k = 1, #records do
  local id = ARGV[6 * k - 3]
  if seen[id] or (someExist and redis.call('EXISTS', records[k]) == 1) then
    answers[2 * k - 1] = 'EXISTS'
    answers[2 * k] = ''
  else
    seen[id] = true
    new[#new + 1] = k
    answers[2 * k - 1] = 'ENQUEUED'
    answers[2 * k] = nowText
  end
end
local function isNew(key, member)
  local added = redis.pcall('SADD', key, member)
  return noteError(added) or added == 1
end
local cells, delayed, call = {}, {}, redis.call
local lastQueue, lastName, lastPriority, cell, stream
for n = 1, #new do
  local k = new[n]
  local i = 6 * k - 3
  local id, queueName, name, priority, runAfter = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  if queueName ~= lastQueue or name ~= lastName then
    local pair = queueName .. ':' .. name
    cell = cells[pair]
    if not cell then
      if isNew(cellsKey, pair) and isNew(queuesKey, queueName) and group ~= '' then
        redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'high'), group, '0', 'MKSTREAM')
        redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'normal'), group, '0', 'MKSTREAM')
        redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, 'low'), group, '0', 'MKSTREAM')
      end
      cell = { 'ZADD', cellKey(queueName, name, 'READY') }
      cells[pair] = cell
    end
    stream = streamKey(queueName, priority)
    lastQueue, lastName, lastPriority = queueName, name, priority
  elseif priority ~= lastPriority then
    stream = streamKey(queueName, priority)
    lastPriority = priority
  end
  local entryId = ''
  local firstArgs, moreArgs = cutArgs(ARGV[i + 5])
  if runAfter == '' then
    entryId = addEntry(stream, id)
    if entryId ~= '' then
      call('HSET', records[k], 'status', 'READY', 'entryId', entryId, 'queueName', queueName, 'name', name,
        'priority', priority, 'enqueuedAt', nowText, 'args', firstArgs, unpack(moreArgs))
    end
  elseif whole(runAfter) <= nowMs then
    entryId = addEntry(stream, id)
  end
  if entryId == '' then
    -- Its time has not come, or its stream cannot be written (place.lua).
    local rows = delayed[queueName] or { 'ZADD', delayedKey(queueName) }
    delayed[queueName] = rows
    rows[#rows + 1] = whole(runAfter) <= nowMs and string.format('%.0f', nowMs + 60000) or runAfter
    rows[#rows + 1] = id
  end
  if runAfter ~= '' or entryId == '' then
    call('HSET', records[k], 'status', 'READY', 'entryId', entryId, 'queueName', queueName, 'name', name,
      'priority', priority, 'enqueuedAt', nowText, 'runAfter', runAfter, 'args', firstArgs, unpack(moreArgs))
  end
  local last = #cell
  cell[last + 1], cell[last + 2] = nowText, id
end
writeIndex(delayed)
writeIndex(cells)
answers[#answers + 1] = indexError
return { unpack(answers) }
