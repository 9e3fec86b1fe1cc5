-- READY -> RUNNING for entries that a consumer was handed: streams[k], entryIds[k], ids[k]. Judges all, then writes.
-- With `own`, RUNNING under a token of the same holder -> RUNNING under a new one, the attempt number unchanged.
-- Returns rows, in order:
--   FIRST token fence leaseUntil queueName name priority runAfter, then id entryId enqueuedAt args, more of args for each: first
--         attempts that have the former in common. The rest follows from the fence and the call, and words are dear
--   BEGUN id entryId token fence attempts leaseUntil queueName name priority enqueuedAt args runAfter
--         lastAttemptedAt startedAt workerIds errors crashes handBacks
--   HELD id | DROPPED id | BROKEN id
-- Ten fields are read for a first attempt and the rest only later on: fields read in Lua are most of a take's time. A record with a
-- `fence` was attempted before.
local function beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, own)
  local format = string.format
  local nowText, fenceText = timeTexts(now)
  local nowUs, untilText = tonumber(fenceText), format('%.0f', tonumber(nowText) + leaseMs)
  local rows, firsts, again, dropped, seen = {}, {}, {}, {}, {}
  local ready, running, waiting = {}, {}, {}
  local newLeases, oldLeases = { 'ZADD', leases }, { 'ZREM', leases }
  local token = '1:' .. call
  local lastQueue, lastName, lastPriority, lastRunAfter, stream, leave, enter, row
  local lastTime, enqueuedAt
  for k = 1, #ids do
    local id, entryId = ids[k], entryIds[k]
    local key = recordKey(id)
    local v = redis.pcall('HMGET', key, 'status', 'entryId', 'queueName', 'name', 'priority', 'enqueuedAt', 'args',
      'fence', 'runAfter', 'args2')
    local status, queueName, name, priority = v[1], v[3], v[4], type(v[5]) == 'string' and v[5] or '0'
    -- Most of a batch is one task's: keys are joined when something changes.
    if type(queueName) == 'string' and (queueName ~= lastQueue or priority ~= lastPriority) then
      lastQueue, lastPriority, lastName, stream = queueName, priority, nil, streamKey(queueName, priority)
    end
    if v.err then
      rows[#rows + 1] = { 'BROKEN', id }
    elseif v[2] ~= entryId then
      rows[#rows + 1] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    elseif type(queueName) ~= 'string' or type(name) ~= 'string' or type(v[7]) ~= 'string' then
      rows[#rows + 1] = { 'BROKEN', id }
    elseif stream ~= streams[k] then
      rows[#rows + 1] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    elseif seen[id] then
      rows[#rows + 1] = { 'HELD', id }
    elseif status == 'READY' then
      if v[6] ~= lastTime or not enqueuedAt then
        lastTime = v[6]
        enqueuedAt = scoreOf(lastTime)
      end
      seen[id] = true
      if name ~= lastName then
        lastName, row = name, nil
        local cell = cellKey(queueName, name, 'READY')
        leave, enter = ready[cell], running[cell]
        if not leave then
          leave, enter = { 'ZREM', cell }, { 'ZADD', cellKey(queueName, name, 'RUNNING') }
          ready[cell], running[cell] = leave, enter
        end
      end
      if v[8] then
        local w = redis.call('HMGET', key,
          'attempts', 'workerIds', 'startedAt', 'errors', 'crashes', 'handBacks', 'lastAttemptedAt', 'waitToken')
        local lastFence = whole(v[8])
        local made = attemptsMade(w[1] or '', lastFence)
        local attempts = format('%.0f', made + 1)
        local workerIds = (w[2] and w[2] ~= '') and (w[2] .. ' ' .. workerId) or workerId
        local lastAt = attemptedAt(w[7] or '', made, lastFence)
        -- A record that was attempted once has no `startedAt`: it is the time of its last attempt.
        local startedAt = (w[3] and w[3] ~= '') and w[3] or lastAt ~= '' and lastAt or nowText
        local fence = format('%.0f', math.max(lastFence + 1, nowUs))
        row = nil
        local begun = { 'BEGUN', id, entryId, attempts .. ':' .. call, fence, attempts, untilText, queueName, name,
          priority, enqueuedAt, joinArgs(key, v[7], v[10]), v[9] or '', nowText, startedAt, workerIds, w[4] or '', w[5] or '0',
          w[6] or '0' }
        rows[#rows + 1], again[#again + 1] = begun, begun
        -- It stays at its limit of crashes, and waits to run alone again.
        if type(w[8]) == 'string' then waiting[#waiting + 1] = begun end
      else
        firsts[#firsts + 1] = key
        if not row or v[9] ~= lastRunAfter then
          lastRunAfter = v[9]
          row = { 'FIRST', token, fenceText, untilText, queueName, name, priority, lastRunAfter or '' }
          rows[#rows + 1] = row
        end
        local last, more = #row, v[10] and (#v[10] < 61 and v[10] or joinArgs(key, '', v[10])) or ''
        row[last + 1], row[last + 2], row[last + 3], row[last + 4], row[last + 5] = id, entryId, enqueuedAt, v[7], more
      end
      leave[#leave + 1] = id
      local last = #enter
      enter[last + 1], enter[last + 2] = enqueuedAt, id
      last = #newLeases
      newLeases[last + 1], newLeases[last + 2] = untilText, id
    elseif status == 'RUNNING' then
      local w = redis.call('HMGET', key, 'leaseToken', 'attempts', 'workerIds', 'startedAt', 'errors', 'crashes',
        'handBacks', 'leaseUntil', 'lastAttemptedAt', 'waitToken')
      local lastFence = whole(v[8] or '')
      local made = attemptsMade(w[2] or '', lastFence)
      local heldToken, attempts = w[1] or '', format('%.0f', made)
      local wanted = attempts .. ':' .. call
      local holder = string.match(heldToken, '^%d+:(.*)%.%d+$')
      if heldToken == wanted or (own and holder and holder == string.match(call, '^(.*)%.%d+$')) then
        local isRepeat = heldToken == wanted
        local lastAt = attemptedAt(w[9] or '', made, lastFence)
        if lastAt == '' then lastAt = nowText end
        local fence = isRepeat and v[8] or format('%.0f', math.max(lastFence + 1, nowUs))
        local held = { 'BEGUN', id, entryId, wanted, fence, attempts, isRepeat and w[8] or untilText, queueName, name,
          priority, v[6] or '0', joinArgs(key, v[7], v[10]), v[9] or '', lastAt,
          w[4] or lastAt, w[3] or workerId,
          w[5] or '', w[6] or '0', w[7] or '0' }
        rows[#rows + 1] = held
        seen[id] = true
        if not isRepeat then
          again[#again + 1] = held
          if w[10] == heldToken then waiting[#waiting + 1] = held end
          oldLeases[#oldLeases + 1] = id
          local last = #newLeases
          newLeases[last + 1], newLeases[last + 2] = untilText, id
        end
      else
        rows[#rows + 1] = { 'HELD', id }
      end
    elseif status == 'SUCCESSFUL' or status == 'FAILED' then
      rows[#rows + 1] = { 'DROPPED', id }
      dropped[#dropped + 1] = k
    else
      rows[#rows + 1] = { 'BROKEN', id }
    end
  end
  for i = 1, #dropped do
    local k = dropped[i]
    dropEntry(streams[k], entryIds[k], ids[k])
  end
  if #firsts + #again == 0 then return rows end
  writeIndexes(ready)
  if #oldLeases > 2 then writeIndex(oldLeases) end
  for i = 1, #firsts do
    -- Neither `attempts` nor `lastAttemptedAt`: the fence says both.
    redis.call('HSET', firsts[i], 'status', 'RUNNING', 'leaseToken', token, 'leaseUntil', untilText, 'fence', fenceText,
      'workerIds', workerId)
  end
  for i = 1, #again do
    local b = again[i]
    redis.call('HSET', recordKey(b[2]), 'status', 'RUNNING', 'leaseToken', b[4], 'leaseUntil', b[7], 'fence', b[5],
      'attempts', b[6], 'workerIds', b[16], 'startedAt', b[15], 'lastAttemptedAt', b[14])
  end
  for i = 1, #waiting do redis.call('HSET', recordKey(waiting[i][2]), 'waitToken', waiting[i][4]) end
  writeIndexes(running)
  writeIndex(newLeases)
  return rows
end
