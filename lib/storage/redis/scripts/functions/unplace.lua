-- Takes a record's place away: its entry, acknowledged and deleted, or its row in `delayed`.
local function unplace(record)
  if record.entryId == '' then
    writeIndex({ { 'ZREM', delayedKey(record.queueName), record.id } })
  elseif ARGV[2] ~= '' then
    redis.pcall('XACK', record.stream, ARGV[2], record.entryId)
    redis.pcall('XDEL', record.stream, record.entryId)
  end
end
