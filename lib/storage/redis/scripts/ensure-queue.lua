-- Make the streams of queues and their consumer group, where they are missing.
-- KEYS    leases
-- ARGV    root, group, then queue names
-- Returns ENSURED, then an index error or nothing
-- Repeat  Nothing changes: BUSYGROUP is what the second call expects.
-- Memory  Refused at maxmemory: the first write is a SADD.
local group = ARGV[2]
for i = 3, #ARGV do
  noteError(redis.pcall('SADD', queuesKey, ARGV[i]))
  for _, band in ipairs(bands) do
    local reply = redis.pcall('XGROUP', 'CREATE', bandStreamKey(ARGV[i], band), group, '0', 'MKSTREAM')
    if reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then noteError(reply) end
  end
end
return { 'ENSURED', indexError }
