-- Delete finished records of one cell, from its oldest on. SUCCESSFUL, FAILED -> (nothing).
-- What finished before the cutoff was enqueued before it, so the walk ends there and never sees the rest of the cell.
-- KEYS    leases
-- ARGV    root, group, queueName, name, status, finishedForMs, limit (at most 200), dryRun ('1' or ''), score, passed
--         score and passed: the position, as answered before ('-inf' and 0 at first)
-- Returns matched, deleted, then the next score and passed, or '' and 0 when the cell is done,
--         then an index error or nothing
-- Repeat  Goes on from the position; nothing twice.
-- Memory  The first write is a ZREM: it passes at maxmemory.
local status, limit, dryRun, score, passed = ARGV[5], tonumber(ARGV[7]), ARGV[8] == '1', ARGV[9], tonumber(ARGV[10])
local cell = cellKey(ARGV[3], ARGV[4], status)
local now = redis.call('TIME')
local cutoff = msOf(now) - tonumber(ARGV[6])
local members = redis.pcall('ZRANGEBYSCORE', cell, score, string.format('%.0f', cutoff), 'WITHSCORES', 'LIMIT', passed, limit)
if noteError(members) then return { 0, 0, '', 0, indexError } end
local matched, leave, gone = 0, { 'ZREM', cell }, {}
for i = 1, #members, 2 do
  local id = members[i]
  if members[i + 1] ~= score then
    score = members[i + 1]
    passed = 0
  end
  local v = redis.pcall('HMGET', recordKey(id), 'status', 'finishedAt')
  local removed = false
  if v.err then
    -- Not a hash: left for the doctor.
  elseif type(v[1]) ~= 'string' then
    removed = redis.call('EXISTS', recordKey(id)) == 0
  elseif v[1] == status and (tonumber(v[2] or '') or math.huge) <= cutoff then
    matched = matched + 1
    if not dryRun then
      removed = true
      gone[#gone + 1] = recordKey(id)
    end
  end
  if removed and not dryRun then
    leave[#leave + 1] = id
  else
    passed = passed + 1
  end
end
if #leave > 2 then redis.call(unpack(leave)) end
if #gone > 0 then redis.call('DEL', unpack(gone)) end
if #members < limit * 2 then return { matched, #gone, '', 0 } end
return { matched, #gone, score, passed }
