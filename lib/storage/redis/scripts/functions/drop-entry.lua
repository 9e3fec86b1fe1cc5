-- Acknowledges and deletes an entry that no record names. It is read first: only the entry that was judged may go.
local function dropEntry(stream, entryId, id)
  local found = redis.pcall('XRANGE', stream, entryId, entryId)
  if found.err then return end
  if #found == 0 or found[1][2][2] == id then
    redis.pcall('XACK', stream, ARGV[2], entryId)
    redis.pcall('XDEL', stream, entryId)
  end
end
