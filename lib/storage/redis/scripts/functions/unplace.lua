-- Takes a record's place away: its entry, acknowledged and deleted, or its row in `delayed`.
local function unplace(record)
  if record.entryId == '' then
    writeIndex({ 'ZREM', delayedKey(record.queueName), record.id })
  elseif ARGV[2] ~= '' then
    writeIndex({ 'XACK', record.stream, ARGV[2], record.entryId })
    writeIndex({ 'XDEL', record.stream, record.entryId })
  end
end
