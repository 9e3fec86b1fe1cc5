-- Store records, each with its index row and its place. (nothing) -> READY.
-- KEYS    leases
-- ARGV    root, group, then runs of records that have these in common: queueName, name, priority, runAfter, pieces, how many, then for
--         each its id and so many pieces of its arguments (args-pieces.ts; '' behind the last of its own); at most 1000 records in
--         all. A word that is said once is cheaper than a thousand times on both sides.
-- Returns enqueuedAt, an index error or '', then the position, from 1 on, of each record whose id is there already
-- Repeat  All of them are there already; the caller reads the records and answers with them.
-- Memory  Refused whole at maxmemory: the first write is a SADD or an XADD.
local group, call, words = ARGV[2], redis.call, #ARGV
local now = redis.call('TIME')
local nowText = timeTexts(now)
local nowMs = tonumber(nowText)
local records = {}
local i = 3
while i <= words do
  local step = tonumber(ARGV[i + 4]) + 1
  local last = i + 5 + step * tonumber(ARGV[i + 5])
  for k = i + 6, last, step do records[#records + 1] = recordKey(ARGV[k]) end
  i = last + 1
end
-- Asked once for all: a batch hardly ever holds an id that is there, and a call of EXISTS is a tenth of an enqueue.
local someExist = #records > 0 and call('EXISTS', unpack(records)) > 0
local function isNew(key, member)
  local added = redis.pcall('SADD', key, member)
  return noteError(added) or added == 1
end
local cells, delayed = {}, {}
local function openCell(queueName, name)
  local pair = queueName .. ':' .. name
  if not cells[pair] then
    if isNew(cellsKey, pair) and isNew(queuesKey, queueName) and group ~= '' then
      for _, band in ipairs(bands) do
        redis.pcall('XGROUP', 'CREATE', bandStreamKey(queueName, band), group, '0', 'MKSTREAM')
      end
    end
    cells[pair] = { 'ZADD', cellKey(queueName, name, 'READY') }
  end
  return cells[pair]
end
local existing, seen, n = {}, {}, 0
i = 3
while i <= words do
  local queueName, name, priority, runAfter = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local pieces = tonumber(ARGV[i + 4])
  local last = i + 5 + (pieces + 1) * tonumber(ARGV[i + 5])
  local stream, due, cell = streamKey(queueName, priority), whole(runAfter) <= nowMs, nil
  -- One table for the run, in which each record changes what is its own.
  local command = { 'HSET', '', 'entryId', '', 'status', 'READY', 'queueName', queueName, 'name', name, 'enqueuedAt', nowText }
  -- What most records have in common, priority 0 and no due time, is not written.
  if priority ~= '0' then command[13], command[14] = 'priority', priority end
  if runAfter ~= '' then command[#command + 1], command[#command + 2] = 'runAfter', runAfter end
  local head = #command
  for piece = 1, pieces do command[head + 2 * piece - 1] = piece == 1 and 'args' or 'args' .. piece end
  for k = i + 6, last, pieces + 1 do
    local id = ARGV[k]
    n = n + 1
    if seen[id] or (someExist and call('EXISTS', records[n]) == 1) then
      existing[#existing + 1] = n
    else
      seen[id] = true
      cell = cell or openCell(queueName, name)
      local entryId = due and addEntry(stream, id) or ''
      if entryId == '' then
        -- Its time has not come, or its stream cannot be written (place.lua).
        local rows = delayed[queueName] or { 'ZADD', delayedKey(queueName) }
        delayed[queueName] = rows
        rows[#rows + 1] = due and string.format('%.0f', nowMs + 60000) or runAfter
        rows[#rows + 1] = id
      end
      command[2], command[4] = records[n], entryId
      local size = head
      for piece = 1, pieces do
        if ARGV[k + piece] == '' then break end
        size = head + 2 * piece
        command[size] = ARGV[k + piece]
      end
      call(unpack(command, 1, size))
      size = #cell
      cell[size + 1], cell[size + 2] = nowText, id
    end
  end
  i = last + 1
end
writeIndexes(delayed)
writeIndexes(cells)
return { nowText, indexError or '', unpack(existing) }
