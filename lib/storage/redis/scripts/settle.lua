-- Write outcomes: record, index, lease, acknowledgement and deletion of the entry. RUNNING -> SUCCESSFUL, FAILED, READY.
-- KEYS    leases
-- ARGV    root, group, then id, token, outcome, payload, delayMs for each (at most 100)
-- Returns SETTLED | LOST | BROKEN for each, then an index error or nothing
-- Repeat  SETTLED, by the record's last move, also when it has begun anew since.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local group = ARGV[2]
local now = redis.call('TIME')
local nowMs = now[1] * 1000 + math.floor(now[2] / 1000)
local nowText = string.format('%.0f', nowMs)
local answers, todo, seen, finished = {}, {}, {}, {}
local from, to, entries, oldLeases = {}, {}, {}, { 'ZREM', leases }
for i = 3, #ARGV, 5 do
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
      local cell = cellKey(queueName, name, 'RUNNING')
      local leave = from[cell]
      if not leave then
        leave = { 'ZREM', cell }
        from[cell] = leave
      end
      leave[#leave + 1] = id
      cell = cellKey(queueName, name, outcome)
      local enter = to[cell]
      if not enter then
        enter = { 'ZADD', cell }
        to[cell] = enter
      end
      local last = #enter
      enter[last + 1], enter[last + 2] = enqueuedAt, id
      oldLeases[#oldLeases + 1] = id
      if v[6] and string.find(v[6], '^%d+%-%d+$') then
        local stream = streamKey(queueName, v[4])
        local old = entries[stream]
        if not old then
          old = {}
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
if #todo == 0 then return { unpack(answers) } end
writeIndex(from)
if group ~= '' then
  for stream, old in pairs(entries) do
    -- XACK leaves the entry, XDEL leaves the pending row: both, always.
    writeIndex({ { 'XACK', stream, group, unpack(old) }, { 'XDEL', stream, unpack(old) } })
  end
end
for k = 1, #todo, 2 do
  local i, v = todo[k], todo[k + 1]
  local id, token, outcome, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = recordKey(id)
  if outcome == 'SUCCESSFUL' then
    redis.call('HSET', record, 'status', outcome, 'leaseToken', '', 'lastMove', 'settle ' .. token, 'entryId', '',
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
answers[#answers + 1] = indexError
return { unpack(answers) }
