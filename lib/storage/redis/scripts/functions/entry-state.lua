-- What stands where a record says its entry is. UNDELIVERED: the next reader is handed it. PENDING: somebody was, and has not
-- acknowledged it. ACKNOWLEDGED: behind the group's place and on no pending list, so nobody will ever be handed it.
-- NONE: no entry, or that of another record. Answers whether the key can hold entries, too.
local function entryState(stream, entryId, id)
  local found = entryId ~= '' and redis.pcall('XRANGE', stream, entryId, entryId) or {}
  if found.err then return 'NONE', not string.find(found.err, 'WRONGTYPE', 1, true) end
  if #found == 0 then
    local kind = redis.call('TYPE', stream).ok
    return 'NONE', kind == 'stream' or kind == 'none'
  end
  if found[1][2][2] ~= id then return 'NONE', true end
  local pending = redis.pcall('XPENDING', stream, ARGV[2], entryId, entryId, 1)
  -- Without its group the stream is read from its start, once the group is made anew.
  if pending.err then return 'UNDELIVERED', true end
  if #pending > 0 then return 'PENDING', true end
  local groups = redis.call('XINFO', 'GROUPS', stream)
  for i = 1, #groups do
    local group = {}
    for k = 1, #groups[i], 2 do group[groups[i][k]] = groups[i][k + 1] end
    if group.name == ARGV[2] then
      if string.find(entryId, '^%d+%-%d+$') and not isAfter(entryId, group['last-delivered-id']) then return 'ACKNOWLEDGED', true end
    end
  end
  return 'UNDELIVERED', true
end
