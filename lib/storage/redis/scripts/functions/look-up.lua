-- A record as an index row or an entry sees it: status, queueName, name, entryId, runAfter, leaseUntil, priority; the word
-- ABSENT or BROKEN in the place of the status where there is no such record.
local function lookUp(id)
  local v = redis.pcall('HMGET', recordKey(id), 'status', 'queueName', 'name', 'entryId', 'runAfter', 'leaseUntil', 'priority')
  if v.err then return { 'BROKEN', '', '', '', '', '', '' } end
  for i = 1, 7 do v[i] = v[i] or '' end
  if v[1] == '' or v[2] == '' or v[3] == '' then
    v[1] = redis.call('EXISTS', recordKey(id)) == 1 and 'BROKEN' or 'ABSENT'
  end
  return v
end
