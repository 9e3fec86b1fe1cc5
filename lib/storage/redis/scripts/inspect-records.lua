-- Read records with all that belongs to them, each at one moment. Payloads are measured, not read. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, how many fields, their names, then ids (at most 100)
-- Returns the time in ms, then a row for each id: GONE id | WRONG id type |
--         FOUND id ttlMs cellScore delayedScore leaseScore knowsQueue knowsTask streamUsable entryState bytesOfArgs
--         bytesOfReturnValue bytesOfErrors otherFields, then the fields; '' where there is none.
--         A score or an answer of a key of a wrong type is '!'. otherFields: names that are asked for nowhere, joined by a space
-- Repeat  The same, of what is stored by then.
-- Memory  Nothing here needs memory: it only reads.
local count = tonumber(ARGV[3])
local payloads = { 'args', 'args2', 'args3', 'args4', 'returnValue', 'errors' }
local names, known = {}, {}
for i = 1, #payloads do known[payloads[i]] = true end
for i = 1, count do
  names[i] = ARGV[3 + i]
  known[ARGV[3 + i]] = true
end
local function answerOf(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' then return '!' end
  return reply and (type(reply) == 'number' and string.format('%.0f', reply) or reply) or ''
end
local now = redis.call('TIME')
local rows = { string.format('%.0f', msOf(now)) }
for i = 4 + count, #ARGV do
  local id = ARGV[i]
  local record = recordKey(id)
  local kind = redis.call('TYPE', record).ok
  if kind == 'none' then
    rows[#rows + 1] = { 'GONE', id }
  elseif kind ~= 'hash' then
    rows[#rows + 1] = { 'WRONG', id, kind }
  else
    local v = redis.call('HMGET', record, unpack(names))
    local fields, present = {}, 0
    for k = 1, count do
      if v[k] then present = present + 1 end
      fields[names[k]] = v[k] or ''
    end
    local bytes, others = {}, {}
    for k = 1, #payloads do
      bytes[k] = redis.call('HSTRLEN', record, payloads[k])
      if bytes[k] > 0 then present = present + 1 end
    end
    if redis.call('HLEN', record) > present then
      for _, name in ipairs(redis.call('HKEYS', record)) do
        if not known[name] and #others < 10 then others[#others + 1] = string.sub(name, 1, 60) end
      end
    end
    local queueName, name = fields.queueName, fields.name
    local state, usable = entryState(streamKey(queueName, fields.priority), fields.entryId, id)
    local row = { 'FOUND', id, string.format('%.0f', redis.call('PTTL', record)),
      answerOf('ZSCORE', cellKey(queueName, name, fields.status), id), answerOf('ZSCORE', delayedKey(queueName), id),
      answerOf('ZSCORE', leases, id), answerOf('SISMEMBER', queuesKey, queueName),
      answerOf('SISMEMBER', cellsKey, queueName .. ':' .. name), usable and '1' or '', state,
      string.format('%.0f', bytes[1] + bytes[2] + bytes[3] + bytes[4]), string.format('%.0f', bytes[5]),
      string.format('%.0f', bytes[6]),
      table.concat(others, ' ') }
    for k = 1, count do row[14 + k] = fields[names[k]] end
    rows[#rows + 1] = { unpack(row) }
  end
end
return { unpack(rows) }
