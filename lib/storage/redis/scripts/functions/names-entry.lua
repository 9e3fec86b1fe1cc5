-- Whether a record owns the entry it was found by: it names it, in the stream of its queue and band. A record whose band was changed
-- by hand owns the entry in the old stream, as long as nothing of its own stands in the new one.
local function namesEntry(ownEntryId, ownStream, stream, entryId, id)
  if ownEntryId ~= entryId then return false end
  if ownStream == stream then return true end
  local found = redis.pcall('XRANGE', ownStream, entryId, entryId)
  return found.err ~= nil or #found == 0 or found[1][2][2] ~= id
end
