-- Gives a READY record its place: a row in `delayed` while its time has not come (the answer is ''), else an entry.
local function place(record, nowMs)
  local runAfter = tonumber(record.runAfter)
  if runAfter and runAfter > nowMs then
    writeIndex({ { 'ZADD', delayedKey(record.queueName), record.runAfter, record.id } })
    return ''
  end
  return redis.call('XADD', record.stream, '*', 'id', record.id)
end
