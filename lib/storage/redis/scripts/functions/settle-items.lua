-- Writes outcomes for the items in ARGV from `first` to `last`, five words each: id, token, outcome, payload, delayMs.
-- RUNNING -> SUCCESSFUL, FAILED, READY. Judges all, then writes. Answers SETTLED | LOST | BROKEN for each.
local function settleItems(first, last, now)
  local group = ARGV[2]
  local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
  local nowText = string.format('%.0f', nowMs)
  local answers, todo, seen, finished = {}, {}, {}, {}
  local from, to, entries, oldLeases = {}, {}, {}, { 'ZREM', leases }
  local lastQueue, lastName, lastOutcome, lastPriority, leave, enter, old
  for i = first, last, 5 do
    local id, token, outcome = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local v = redis.pcall('HMGET', recordKey(id), 'leaseToken', 'queueName', 'name', 'priority', 'enqueuedAt', 'entryId',
      'lastAttemptedAt', 'runAfter', 'watched')
    local queueName, name = v[2], v[3]
    if v.err then
      answers[#answers + 1] = 'BROKEN'
    elseif seen[id] == token then
      answers[#answers + 1] = 'SETTLED'
    elseif v[1] == token and token ~= '' then
      if type(queueName) ~= 'string' or type(name) ~= 'string' then
        answers[#answers + 1] = 'BROKEN'
      else
        answers[#answers + 1] = 'SETTLED'
        seen[id] = token
        local enqueuedAt = v[5] and string.find(v[5], '^%d+$') and v[5] or '0'
        -- Most of a batch is one task's: its key is joined once and not a hundred times.
        if queueName ~= lastQueue or name ~= lastName or outcome ~= lastOutcome then
          lastQueue, lastName, lastOutcome, old = queueName, name, outcome, nil
          local cell = cellKey(queueName, name, 'RUNNING')
          leave = from[cell] or { 'ZREM', cell }
          from[cell] = leave
          cell = cellKey(queueName, name, outcome)
          enter = to[cell] or { 'ZADD', cell }
          to[cell] = enter
        end
        leave[#leave + 1] = id
        local size = #enter
        enter[size + 1], enter[size + 2] = enqueuedAt, id
        oldLeases[#oldLeases + 1] = id
        if v[6] and string.find(v[6], '^%d+%-%d+$') then
          if not old or v[4] ~= lastPriority then
            lastPriority = v[4]
            local stream = streamKey(queueName, lastPriority)
            old = entries[stream] or {}
            entries[stream] = old
          end
          old[#old + 1] = v[6]
        end
        todo[#todo + 1] = i
        todo[#todo + 1] = v
        if outcome ~= 'READY' then
          local begunMs = tonumber(v[7]) or nowMs
          local waitMs
          if string.sub(token, 1, 2) == '1:' then
            waitMs = begunMs - math.max(tonumber(enqueuedAt), tonumber(v[8] or '') or 0)
          end
          countOutcome(queueName, outcome, nowMs - begunMs, waitMs)
          if type(v[9]) == 'string' then finished[#finished + 1] = id end
        end
      end
    elseif redis.call('HGET', recordKey(id), 'lastMove') == 'settle ' .. token then
      answers[#answers + 1] = 'SETTLED'
    else
      answers[#answers + 1] = 'LOST'
    end
  end
  if #todo == 0 then return answers end
  writeIndex(from)
  if group ~= '' then
    for stream, gone in pairs(entries) do
      -- XACK leaves the entry, XDEL leaves the pending row: both, always.
      writeIndex({ { 'XACK', stream, group, unpack(gone) }, { 'XDEL', stream, unpack(gone) } })
    end
  end
  for k = 1, #todo, 2 do
    local i, v = todo[k], todo[k + 1]
    local id, token, outcome, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local record = recordKey(id)
    if outcome == 'SUCCESSFUL' and payload == 'null' then
      -- Most tasks return nothing: a SUCCESSFUL record without the field has returned null.
      redis.call('HSET', record, 'status', outcome, 'entryId', '', 'leaseToken', '', 'lastMove', 'settle ' .. token,
        'finishedAt', nowText)
    elseif outcome == 'SUCCESSFUL' then
      redis.call('HSET', record, 'status', outcome, 'entryId', '', 'leaseToken', '', 'lastMove', 'settle ' .. token,
        'finishedAt', nowText, 'returnValue', payload)
    else
      local errors = redis.call('HGET', record, 'errors')
      local line = '{"at":' .. nowText .. ',' .. string.sub(payload, 2)
      errors = (type(errors) == 'string' and errors ~= '') and (errors .. '\n' .. line) or line
      if outcome == 'FAILED' then
        redis.call('HSET', record, 'status', outcome, 'leaseToken', '', 'lastMove', 'settle ' .. token, 'entryId', '',
          'finishedAt', nowText, 'errors', errors)
      else
        local delayMs = tonumber(ARGV[i + 4]) or 0
        local runAfter = delayMs > 0 and string.format('%.0f', nowMs + delayMs) or ''
        local entryId = place({ id = id, queueName = v[2], stream = streamKey(v[2], v[4]), runAfter = runAfter }, nowMs)
        redis.call('HSET', record, 'status', outcome, 'leaseToken', '', 'lastMove', 'settle ' .. token, 'entryId', entryId,
          'runAfter', runAfter, 'errors', errors)
      end
    end
  end
  writeIndex(to)
  writeIndex({ oldLeases })
  writeCounts(nowMs)
  if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
  return answers
end
