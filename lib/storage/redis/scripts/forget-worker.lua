-- Remove a consumer that ended. Deleting a consumer destroys its pending rows, so one that has any stays.
-- KEYS    leases
-- ARGV    root, group, consumer, maxIdleMs ('' when the owner asks; else a younger heartbeat keeps it)
-- Returns FORGOTTEN | KEPT
-- Repeat  FORGOTTEN.
-- Memory  Nothing here needs memory.
local group, consumer, maxIdleMs = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = redis.call('TIME')
local seen = tonumber(redis.call('ZSCORE', workersKey, consumer) or '')
if maxIdleMs and seen and msOf(now) - seen < maxIdleMs then return 'KEPT' end
local streams = {}
for _, queueName in ipairs(redis.call('SMEMBERS', queuesKey)) do
  for _, band in ipairs(bands) do
    local stream = bandStreamKey(queueName, band)
    local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
    if not pending.err then
      if #pending > 0 then return 'KEPT' end
      streams[#streams + 1] = stream
    end
  end
end
redis.call('ZREM', workersKey, consumer)
for i = 1, #streams do redis.pcall('XGROUP', 'DELCONSUMER', streams[i], group, consumer) end
redis.call('DEL', workerKey(consumer))
return 'FORGOTTEN'
