-- Writes outcomes for the words of ARGV from `first` to `last`: runs that have token, outcome, delayMs in common, how many, then id
-- and payload for each. RUNNING -> SUCCESSFUL, FAILED, READY. Judges all, then writes. Answers an index error or '', then for each
-- that was not settled its position, from 1 on, and LOST or BROKEN.
local function settleItems(first, last, now)
  local group = ARGV[2]
  local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
  local nowText = string.format('%.0f', nowMs)
  local refused, todo, seen, finished = {}, {}, {}, {}
  local from, to, entries, oldLeases = {}, {}, {}, { 'ZREM', leases }
  local lastQueue, lastName, lastPriority, leave, enter, old
  local lastTime, enqueuedAt
  local n, run = 0, first
  while run <= last do
    local token, outcome = ARGV[run], ARGV[run + 1]
    local runEnd, isFirst = run + 3 + 2 * tonumber(ARGV[run + 3]), string.sub(token, 1, 2) == '1:'
    lastName = nil
    for i = run + 4, runEnd, 2 do
      local id, word = ARGV[i], nil
      local record = recordKey(id)
      n = n + 1
      local v = redis.pcall('HMGET', record, 'leaseToken', 'queueName', 'name', 'priority', 'enqueuedAt', 'entryId',
        'lastAttemptedAt', 'runAfter', 'watched', 'fence')
      local queueName, name = v[2], v[3]
      if v.err then
        word = 'BROKEN'
      elseif seen[id] == token then
        -- Twice in one call.
      elseif v[1] == token and token ~= '' then
        if type(queueName) ~= 'string' or type(name) ~= 'string' then
          word = 'BROKEN'
        else
          seen[id] = token
          if v[5] ~= lastTime or not enqueuedAt then
            lastTime = v[5]
            enqueuedAt = lastTime and string.find(lastTime, '^%d+$') and lastTime or '0'
          end
          -- Most of a batch is one task's: its key is joined once and not a hundred times.
          if name ~= lastName or queueName ~= lastQueue then
            lastQueue, lastName, old = queueName, name, nil
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
          size = #todo
          todo[size + 1], todo[size + 2], todo[size + 3], todo[size + 4] = run, i, v, record
          if outcome ~= 'READY' then
            local begunMs = tonumber(v[7]) or math.floor((tonumber(v[10]) or nowMs * 1000) / 1000)
            local waitMs = isFirst and begunMs - math.max(tonumber(enqueuedAt), tonumber(v[8] or '') or 0) or nil
            countOutcome(queueName, outcome, nowMs - begunMs, waitMs)
            if type(v[9]) == 'string' then finished[#finished + 1] = id end
          end
        end
      elseif redis.call('HGET', record, 'lastMove') ~= 'settle ' .. token then
        word = 'LOST'
      end
      if word then
        refused[#refused + 1] = n
        refused[#refused + 1] = word
      end
    end
    run = runEnd + 1
  end
  if #todo > 0 then
    writeIndex(from)
    if group ~= '' then
      for stream, gone in pairs(entries) do
        -- XACK leaves the entry, XDEL leaves the pending row: both, always.
        writeIndex({ { 'XACK', stream, group, unpack(gone) }, { 'XDEL', stream, unpack(gone) } })
      end
    end
    for k = 1, #todo, 4 do
      local head, i, v, record = todo[k], todo[k + 1], todo[k + 2], todo[k + 3]
      local outcome, id, payload, lastMove = ARGV[head + 1], ARGV[i], ARGV[i + 1], 'settle ' .. ARGV[head]
      -- What finished keeps no trace of its lease and entry: 60 bytes less for as long as it is kept.
      if outcome ~= 'READY' then redis.call('HDEL', record, 'entryId', 'leaseToken', 'leaseUntil', 'waitToken') end
      if outcome == 'SUCCESSFUL' and payload == 'null' then
        -- Most tasks return nothing: a SUCCESSFUL record without the field has returned null.
        redis.call('HSET', record, 'status', outcome, 'lastMove', lastMove, 'finishedAt', nowText)
      elseif outcome == 'SUCCESSFUL' then
        redis.call('HSET', record, 'status', outcome, 'lastMove', lastMove, 'finishedAt', nowText, 'returnValue', payload)
      else
        local errors = redis.call('HGET', record, 'errors')
        local line = '{"at":' .. nowText .. ',' .. string.sub(payload, 2)
        errors = (type(errors) == 'string' and errors ~= '') and (errors .. '\n' .. line) or line
        if outcome == 'FAILED' then
          redis.call('HSET', record, 'status', outcome, 'lastMove', lastMove, 'finishedAt', nowText, 'errors', errors)
        else
          local delayMs = tonumber(ARGV[head + 2]) or 0
          local runAfter = delayMs > 0 and string.format('%.0f', nowMs + delayMs) or ''
          local entryId = place({ id = id, queueName = v[2], stream = streamKey(v[2], v[4]), runAfter = runAfter }, nowMs)
          redis.call('HSET', record, 'status', outcome, 'entryId', entryId, 'leaseToken', '', 'lastMove', lastMove,
            'runAfter', runAfter, 'errors', errors)
        end
      end
    end
    writeIndex(to)
    writeIndex({ oldLeases })
    writeCounts(nowMs)
    if #finished > 0 then redis.pcall('PUBLISH', finishedChannel, table.concat(finished, ' ')) end
  end
  return { indexError or '', unpack(refused) }
end
