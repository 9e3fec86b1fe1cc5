-- Writes outcomes for the words of ARGV from `first` to `last`: runs that have token, outcome, delayMs, queueName, name, priority,
-- runAfter, begunMs, payload in common, how many, then for each its id, and its payload where the common one is ''.
-- RUNNING -> SUCCESSFUL, FAILED, READY. Judges all, then writes.
-- Answers an index error or '', then for each that was not settled its position, from 1 on, and LOST or BROKEN.
-- What cannot change while an attempt runs is said by the one who settles it: a field read here costs as much as a row of an index.
local function settleItems(first, last, now)
  local group = ARGV[2]
  local nowText = timeTexts(now)
  local nowMs = tonumber(nowText)
  local refused, todo, seen, finished = {}, {}, {}, {}
  local from, to, entries, oldLeases = {}, {}, {}, { 'ZREM', leases }
  local lastTime, enqueuedAt, enqueuedMs
  local n, run = 0, first
  while run <= last do
    local token, outcome, queueName, name = ARGV[run], ARGV[run + 1], ARGV[run + 3], ARGV[run + 4]
    local begunMs, dueMs = tonumber(ARGV[run + 7]), tonumber(ARGV[run + 6]) or 0
    local step = ARGV[run + 8] == '' and 2 or 1
    local runEnd, isFirst = run + 9 + step * tonumber(ARGV[run + 9]), string.sub(token, 1, 2) == '1:'
    local leave, enter, old
    local ended = 0
    for i = run + 10, runEnd, step do
      local id, word = ARGV[i], nil
      local record = recordKey(id)
      n = n + 1
      local v = redis.pcall('HMGET', record, 'status', 'leaseToken', 'entryId', 'enqueuedAt', 'watched')
      local isOwn = token ~= '' and v[2] == token
      if v.err then
        word = 'BROKEN'
      elseif seen[id] == token then
        -- Twice in one call.
      elseif isOwn and v[1] == 'RUNNING' and (queueName == '' or name == '') then
        word = 'BROKEN'
      elseif isOwn and v[1] == 'RUNNING' then
        seen[id] = token
        if v[4] ~= lastTime or not enqueuedAt then
          lastTime = v[4]
          enqueuedAt = scoreOf(lastTime)
          enqueuedMs = tonumber(enqueuedAt)
        end
        if not leave then
          local stream, cell = streamKey(queueName, ARGV[run + 5]), cellKey(queueName, name, 'RUNNING')
          leave = from[cell] or { 'ZREM', cell }
          from[cell] = leave
          cell = cellKey(queueName, name, outcome)
          enter = to[cell] or { 'ZADD', cell }
          to[cell] = enter
          old = entries[stream] or {}
          entries[stream] = old
        end
        leave[#leave + 1] = id
        local size = #enter
        enter[size + 1], enter[size + 2] = enqueuedAt, id
        oldLeases[#oldLeases + 1] = id
        if v[3] and string.find(v[3], '^%d+%-%d+$') then old[#old + 1] = v[3] end
        size = #todo
        todo[size + 1], todo[size + 2], todo[size + 3] = run, i, record
        if outcome ~= 'READY' then
          ended = ended + 1
          if isFirst then countIn(queueName, 'wait', begunMs - math.max(enqueuedMs, dueMs), 1) end
          if v[5] then finished[#finished + 1] = id end
        end
      elseif isOwn and (v[1] == 'SUCCESSFUL' or v[1] == 'FAILED') then
        -- Settled before: the token of the attempt that ended a record stays on it.
      elseif redis.call('HGET', record, 'lastMove') ~= 'settle ' .. token then
        word = 'LOST'
      end
      if word then
        refused[#refused + 1] = n
        refused[#refused + 1] = word
      end
    end
    if ended > 0 then countIn(queueName, outcome, nowMs - begunMs, ended) end
    run = runEnd + 1
  end
  if #todo > 0 then
    writeIndexes(from)
    if group ~= '' then
      for stream, gone in pairs(entries) do
        if #gone > 0 then removeEntries(stream, group, gone) end
      end
    end
    for k = 1, #todo, 3 do
      local head, i, record = todo[k], todo[k + 1], todo[k + 2]
      local token, outcome, id, payload = ARGV[head], ARGV[head + 1], ARGV[i], ARGV[head + 8]
      if payload == '' then payload = ARGV[i + 1] end
      -- `entryId` and `leaseUntil` of what finished say what was, and nobody reads them: an HDEL was a twentieth of a settle.
      if outcome ~= 'READY' and string.sub(token, 1, 2) ~= '1:' then
        redis.call('HDEL', record, 'waitToken')
        redis.call('HSET', record, 'lastMove', 'settle ' .. token)
      end
      if outcome == 'SUCCESSFUL' and payload == 'null' then
        -- Most tasks return nothing: a SUCCESSFUL record without the field has returned null.
        redis.call('HSET', record, 'status', outcome, 'finishedAt', nowText)
      elseif outcome == 'SUCCESSFUL' then
        redis.call('HSET', record, 'status', outcome, 'finishedAt', nowText, 'returnValue', payload)
      else
        local errors = redis.call('HGET', record, 'errors')
        local line = '{"at":' .. nowText .. ',' .. string.sub(payload, 2)
        errors = (type(errors) == 'string' and errors ~= '') and (errors .. '\n' .. line) or line
        if outcome == 'FAILED' then
          redis.call('HSET', record, 'status', outcome, 'finishedAt', nowText, 'errors', errors)
        else
          local delayMs = tonumber(ARGV[head + 2]) or 0
          local runAfter = delayMs > 0 and string.format('%.0f', nowMs + delayMs) or ''
          local queueName = ARGV[head + 3]
          local stream = streamKey(queueName, ARGV[head + 5])
          local entryId = place({ id = id, queueName = queueName, stream = stream, runAfter = runAfter }, nowMs)
          redis.call('HSET', record, 'status', outcome, 'entryId', entryId, 'leaseToken', '', 'lastMove', 'settle ' .. token,
            'runAfter', runAfter, 'errors', errors)
        end
      end
    end
    writeIndexes(to)
    writeIndex(oldLeases)
    writeCounts(nowMs)
    if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
  end
  return { indexError or '', unpack(refused) }
end
