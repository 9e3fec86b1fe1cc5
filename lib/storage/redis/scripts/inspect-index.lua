-- Read rows of an index sorted set, one step, each with the record that it names. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, key of the set, cursor
-- Returns the next cursor, the time in ms, and a list of rows: id, score, and the record as look-up.lua has it; no rows of
--         a key that is no sorted set
-- Repeat  The same step, of what is there by then.
-- Memory  Nothing here needs memory: it only reads.
local now = redis.call('TIME')
local step = redis.pcall('ZSCAN', ARGV[3], ARGV[4], 'COUNT', 200)
if step.err then step = { '0', {} } end
local rows = {}
for i = 1, #step[2], 2 do
  rows[#rows + 1] = { step[2][i], step[2][i + 1], unpack(lookUp(step[2][i])) }
end
return { step[1], string.format('%.0f', msOf(now)), rows }
