-- READY -> RUNNING for entries that a consumer was handed: streams[k], entryIds[k], ids[k]. Judges all, then writes.
-- With `own`, RUNNING under a token of the same holder -> RUNNING under a new one, the attempt number unchanged.
-- Returns one row for each, in order:
--   BEGUN id entryId token fence attempts leaseUntil queueName name priority enqueuedAt args runAfter
--         lastAttemptedAt startedAt workerIds errors crashes handBacks
--   the same up to runAfter for a first attempt: the rest follows from its fence and the call, and words are dear
--   HELD id | DROPPED id | BROKEN id
-- Ten fields are read for a first attempt and the rest only later on: fields read in Lua are most of a take's time.
local function beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, own)
  local format = string.format
  local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
  local nowUs = now[1] * 1000000 + now[2]
  local nowText, untilText = format('%.0f', nowMs), format('%.0f', nowMs + leaseMs)
  local rows, writes, dropped, seen = {}, {}, {}, {}
  local ready, running = {}, {}
  local newLeases, oldLeases = { 'ZADD', leases }, { 'ZREM', leases }
  local fenceText, token = format('%.0f', nowUs), '1:' .. call
  local lastQueue, lastName, lastPriority, stream, leave, enter
  for k = 1, #ids do
    local id, entryId = ids[k], entryIds[k]
    local key = recordKey(id)
    local v = redis.pcall('HMGET', key,
      'status', 'entryId', 'queueName', 'name', 'priority', 'enqueuedAt', 'args', 'attempts', 'runAfter',
      'args2')
    local status, queueName, name = v[1], v[3], v[4]
    -- Most of a batch is one task's: keys are joined when something changes.
    if type(queueName) == 'string' and (queueName ~= lastQueue or v[5] ~= lastPriority) then
      lastQueue, lastPriority, lastName, stream = queueName, v[5], nil, streamKey(queueName, v[5])
    end
    if v.err then
      rows[k] = { 'BROKEN', id }
    elseif v[2] ~= entryId then
      rows[k] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    elseif type(queueName) ~= 'string' or type(name) ~= 'string' or type(v[7]) ~= 'string' then
      rows[k] = { 'BROKEN', id }
    elseif stream ~= streams[k] then
      rows[k] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    elseif seen[id] then
      rows[k] = { 'HELD', id }
    elseif status == 'READY' then
      local enqueuedAt = v[6] and string.find(v[6], '^%d+$') and v[6] or '0'
      local args = joinArgs(key, v[7], v[10])
      local row
      if v[8] then
        local w = redis.call('HMGET', key,
          'fence', 'workerIds', 'startedAt', 'errors', 'crashes', 'handBacks', 'lastAttemptedAt')
        local attempts = format('%.0f', whole(v[8]) + 1)
        local workerIds = (w[2] and w[2] ~= '') and (w[2] .. ' ' .. workerId) or workerId
        -- A record that was attempted once has no `startedAt`: it is the time of its last attempt.
        local startedAt = (w[3] and w[3] ~= '') and w[3] or w[7] or nowText
        local fence = format('%.0f', math.max(whole(w[1] or '') + 1, nowUs))
        row = { 'BEGUN', id, entryId, attempts .. ':' .. call, fence, attempts, untilText, queueName, name, v[5] or '0',
          enqueuedAt, args, v[9] or '', nowText, startedAt, workerIds, w[4] or '', w[5] or '0', w[6] or '0' }
      else
        row = { 'BEGUN', id, entryId, token, fenceText, '1', untilText, queueName, name, v[5] or '0', enqueuedAt, args,
          v[9] or '' }
      end
      rows[k] = row
      seen[id] = true
      writes[#writes + 1] = row
      if name ~= lastName then
        lastName = name
        local from = cellKey(queueName, name, 'READY')
        leave, enter = ready[from], running[from]
        if not leave then
          leave, enter = { 'ZREM', from }, { 'ZADD', cellKey(queueName, name, 'RUNNING') }
          ready[from], running[from] = leave, enter
        end
      end
      leave[#leave + 1] = id
      local last = #enter
      enter[last + 1], enter[last + 2] = enqueuedAt, id
      last = #newLeases
      newLeases[last + 1], newLeases[last + 2] = untilText, id
    elseif status == 'RUNNING' then
      local w = redis.call('HMGET', key, 'leaseToken', 'fence', 'workerIds', 'startedAt', 'errors', 'crashes',
        'handBacks', 'leaseUntil', 'lastAttemptedAt')
      local token, attempts = w[1] or '', v[8] or '0'
      local wanted = attempts .. ':' .. call
      local holder = string.match(token, '^%d+:(.*)%.%d+$')
      if token == wanted or (own and holder and holder == string.match(call, '^(.*)%.%d+$')) then
        local again = token == wanted
        local fence = again and w[2] or format('%.0f', math.max(whole(w[2] or '') + 1, nowUs))
        local row = { 'BEGUN', id, entryId, wanted, fence, attempts, again and w[8] or untilText, queueName, name,
          v[5] or '0', v[6] or '0', joinArgs(key, v[7], v[10]), v[9] or '', w[9] or nowText,
          w[4] or w[9] or nowText, w[3] or workerId,
          w[5] or '', w[6] or '0', w[7] or '0' }
        rows[k] = row
        seen[id] = true
        if not again then
          writes[#writes + 1] = row
          oldLeases[#oldLeases + 1] = id
          local last = #newLeases
          newLeases[last + 1], newLeases[last + 2] = untilText, id
        end
      else
        rows[k] = { 'HELD', id }
      end
    elseif status == 'SUCCESSFUL' or status == 'FAILED' then
      rows[k] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    else
      rows[k] = { 'BROKEN', id }
    end
  end
  for i = 1, #dropped do
    local k = dropped[i]
    dropEntry(streams[k], entryIds[k], ids[k])
  end
  if #writes == 0 then return rows end
  writeIndex(ready)
  if #oldLeases > 2 then writeIndex({ oldLeases }) end
  for i = 1, #writes do
    local row = writes[i]
    if row[15] then
      redis.call('HSET', recordKey(row[2]), 'status', 'RUNNING', 'leaseToken', row[4], 'leaseUntil', row[7], 'fence', row[5],
        'attempts', row[6], 'workerIds', row[16], 'startedAt', row[15], 'lastAttemptedAt', row[14])
    else
      redis.call('HSET', recordKey(row[2]), 'status', 'RUNNING', 'leaseToken', token, 'leaseUntil', untilText,
        'fence', fenceText, 'attempts', '1', 'workerIds', workerId, 'lastAttemptedAt', nowText)
    end
  end
  writeIndex(running)
  writeIndex({ newLeases })
  return rows
end
