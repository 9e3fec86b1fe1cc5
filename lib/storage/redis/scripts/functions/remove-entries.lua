-- Acknowledges and deletes entries that were delivered. XACK leaves the entry, XDEL leaves the pending row: both, always.
-- XDEL walks a node of the stream (a hundred entries) to each entry that it deletes, past all that were deleted before. Whatever
-- lies before the first pending entry was delivered and acknowledged, so a trim takes it at one walk: a sixth of the cost of a
-- settle of fifty. Where one stands behind that, or the server knows no MINID (before 6.2), each goes by itself.
local function removeEntries(stream, group, entryIds)
  noteError(redis.pcall('XACK', stream, group, unpack(entryIds)))
  if #entryIds > 2 then
    local pending = redis.pcall('XPENDING', stream, group, '-', '+', '1')
    local first = #pending > 0 and pending[1][1]
    -- Asked of each: the count that a trim answers holds entries that nobody owns, too. Most compare as texts, without a call.
    local areBefore = first
    for i = 1, first and #entryIds or 0 do
      local entryId = entryIds[i]
      if (#entryId ~= #first or entryId > first) and isAfter(entryId, first) then areBefore = false end
    end
    if areBefore and type(redis.pcall('XTRIM', stream, 'MINID', first)) == 'number' then return end
  end
  noteError(redis.pcall('XDEL', stream, unpack(entryIds)))
end
