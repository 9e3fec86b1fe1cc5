-- Read undelivered entries, stream by stream, and begin their attempts. READY -> RUNNING. From Redis 6.0 on.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, count, then the streams in the order they are emptied
-- Returns rows of begin-entries.lua, then NOGROUP stream for each stream without its group, INDEX text for an index error
-- Repeat  Takes further entries; those of the first call are in the consumer's own pending list.
-- Memory  The first write is XREADGROUP: it passes at maxmemory, and so does what follows.
local group, consumer, call, leaseMs, workerId, left = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local streams, entryIds, ids, notes = {}, {}, {}, {}
local n = 0
for i = 8, #ARGV do
  -- COUNT 0 would mean all.
  if left <= 0 then break end
  local stream = ARGV[i]
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', stream, '>')
  if reply and reply.err then
    if string.find(reply.err, 'NOGROUP', 1, true) then
      notes[#notes + 1] = { 'NOGROUP', stream }
    elseif string.find(reply.err, 'WRONGTYPE', 1, true) then
      notes[#notes + 1] = { 'INDEX', reply.err .. ' ' .. stream }
    elseif n == 0 then
      return redis.error_reply(reply.err)
    else
      break
    end
  elseif reply then
    local entries = reply[1][2]
    for k = 1, #entries do
      n = n + 1
      streams[n], entryIds[n], ids[n] = stream, entries[k][1], entries[k][2][2]
    end
    left = left - #entries
  end
end
if n == 0 then return notes end
local now = redis.call('TIME')
local rows = beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, false)
for i = 1, #notes do rows[#rows + 1] = notes[i] end
if indexError then rows[#rows + 1] = { 'INDEX', indexError } end
return { unpack(rows) }
