-- Gives a READY record its place: a row in `delayed` while its time has not come (the answer is ''), else an entry. A record
-- whose stream cannot be written waits in `delayed` a minute at a time, so that it is not lost meanwhile.
local function place(record, nowMs)
  local due, entryId = whole(record.runAfter) <= nowMs, ''
  if due then entryId = addEntry(record.stream, record.id) end
  if entryId == '' then
    local score = due and string.format('%.0f', nowMs + 60000) or record.runAfter
    writeIndex({ 'ZADD', delayedKey(record.queueName), score, record.id })
  end
  return entryId
end
