-- Read the groups of a stream, and the consumers of ours. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, stream
-- Returns nothing where there is no stream; else STREAM, GROUP name for each of its groups, and behind ours CONSUMER name
--         pending idleMs heartbeatMs for each of its consumers; heartbeatMs '' where there is none
-- Repeat  The same, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local stream = ARGV[3]
local rows = {}
local function pairsOf(flat)
  local found = {}
  for k = 1, #flat, 2 do found[flat[k]] = flat[k + 1] end
  return found
end
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then return {} end
rows[1] = { 'STREAM' }
for i = 1, #groups do
  local name = pairsOf(groups[i]).name
  rows[#rows + 1] = { 'GROUP', name }
  if name == ARGV[2] then
    local consumers = redis.call('XINFO', 'CONSUMERS', stream, name)
    for k = 1, #consumers do
      local consumer = pairsOf(consumers[k])
      local seen = redis.pcall('ZSCORE', workersKey, consumer.name)
      rows[#rows + 1] = { 'CONSUMER', consumer.name, string.format('%.0f', consumer.pending),
        string.format('%.0f', consumer.idle), type(seen) == 'string' and seen or '' }
    end
  end
end
return { unpack(rows) }
