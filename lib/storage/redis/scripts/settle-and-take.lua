-- A busy worker's turn: settle what ended, then take what fits. One call in place of two.
-- KEYS    leases
-- ARGV    root, group, consumer, call, leaseMs, workerId, count, how many words the items take, then those of settle-items.lua
--         (at most 100 items), then the streams in the order they are emptied
-- Returns the length of the answer of settle.lua, then that answer, then that of take.lua: a list less is 2 % of a call for one task
-- Repeat  What was settled stays so; takes further entries, as take.lua does.
-- Memory  The first write is a ZREM or XREADGROUP: it passes at maxmemory, and so does what follows.
local now = redis.call('TIME')
local last = 8 + tonumber(ARGV[8])
local answers = settleItems(9, last, now)
indexError = nil
local rows, failed = takeEntries(last + 1, ARGV[7], ARGV[2], ARGV[3], now, ARGV[4], tonumber(ARGV[5]), ARGV[6])
if failed then return redis.error_reply(failed) end
local size = #answers
for i = 1, #rows do answers[size + i] = rows[i] end
return { size, unpack(answers) }
