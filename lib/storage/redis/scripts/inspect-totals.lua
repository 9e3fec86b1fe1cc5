-- Measure the index at one moment: sizes only, over all queues and task names that are listed. Writes nothing.
-- KEYS    leases
-- ARGV    root, group
-- Returns how many rows there are: cells of READY, RUNNING, SUCCESSFUL, FAILED, entries, delayed, leases
-- Repeat  The same, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local function sizeOf(command, key)
  local size = redis.pcall(command, key)
  return type(size) == 'number' and size or 0
end
local function membersOf(key)
  local members = redis.pcall('SMEMBERS', key)
  return members.err and {} or members
end
local sums = { READY = 0, RUNNING = 0, SUCCESSFUL = 0, FAILED = 0 }
for _, pair in ipairs(membersOf(cellsKey)) do
  local queueName, name = string.match(pair, '^([^:]*):(.*)$')
  if queueName then
    for status, sum in pairs(sums) do sums[status] = sum + sizeOf('ZCARD', cellKey(queueName, name, status)) end
  end
end
local entries, delayed = 0, 0
for _, queueName in ipairs(membersOf(queuesKey)) do
  delayed = delayed + sizeOf('ZCARD', delayedKey(queueName))
  for _, band in ipairs(bands) do
    entries = entries + sizeOf('XLEN', bandStreamKey(queueName, band))
  end
end
return { sums.READY, sums.RUNNING, sums.SUCCESSFUL, sums.FAILED, entries, delayed, sizeOf('ZCARD', leases) }
