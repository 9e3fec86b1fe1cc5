-- Remove a consumer of one stream that has nothing, says nothing and was idle for long.
-- Deleting one destroys its pending rows, so one that has any stays.
-- KEYS    leases
-- ARGV    root, group, stream, consumer, maxIdleMs
-- Returns MENDED | FINE
-- Repeat  FINE.
-- Memory  Nothing here needs memory.
local stream, group, name = ARGV[3], ARGV[2], ARGV[4]
if redis.pcall('ZSCORE', workersKey, name) then return 'FINE' end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then return 'FINE' end
for i = 1, #consumers do
  local consumer = {}
  for k = 1, #consumers[i], 2 do consumer[consumers[i][k]] = consumers[i][k + 1] end
  if consumer.name == name and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[5]) then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, name)
    return 'MENDED'
  end
end
return 'FINE'
