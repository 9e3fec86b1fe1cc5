-- The smallest entry id behind one: where the next page begins. `(id` for that is known to servers from 6.2 on only.
local function nextEntryId(entryId)
  local ms, sequence = string.match(entryId, '^(%d+)%-(%d+)$')
  return ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
end
