-- Reads undelivered entries of the streams in ARGV from `firstStream` on, up to `count` (a text) of them, and begins their attempts.
-- Answers rows of begin-entries.lua, then NOGROUP stream for each stream without its group, INDEX text for an index error;
-- nil and the error where the first read failed.
local function takeEntries(firstStream, count, group, consumer, now, call, leaseMs, workerId)
  local streams, entryIds, ids, notes = {}, {}, {}, {}
  local n, left = 0, tonumber(count)
  for i = firstStream, #ARGV do
    -- COUNT 0 would mean all.
    if left <= 0 then break end
    local stream = ARGV[i]
    local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', n == 0 and count or left, 'STREAMS', stream, '>')
    if reply and reply.err then
      if string.find(reply.err, 'NOGROUP', 1, true) then
        notes[#notes + 1] = { 'NOGROUP', stream }
      elseif string.find(reply.err, 'WRONGTYPE', 1, true) then
        notes[#notes + 1] = { 'INDEX', reply.err .. ' ' .. stream }
      elseif n == 0 then
        return nil, reply.err
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
  local rows = beginEntries(streams, entryIds, ids, now, call, leaseMs, workerId, false)
  for i = 1, #notes do rows[#rows + 1] = notes[i] end
  if indexError then rows[#rows + 1] = { 'INDEX', indexError } end
  return rows
end
