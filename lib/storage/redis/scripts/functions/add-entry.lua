-- Adds the entry of a record and answers its id; '' when the key of the stream holds something else.
local function addEntry(stream, id)
  local entryId = redis.pcall('XADD', stream, '*', 'id', id)
  return noteError(entryId) and '' or entryId
end
