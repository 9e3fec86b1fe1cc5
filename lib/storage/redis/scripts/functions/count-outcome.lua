-- Counts of one call, by field of this minute's stats: <queue>:<outcome>:<bucket of the run time> and, for a first attempt,
-- <queue>:wait:<bucket>. Bucket b holds times below 2^b ms. One HINCRBY a field; EXPIRE only when a field is new.
local counts = {}
local function countOutcome(queueName, outcome, runMs, waitMs)
  local bucket = 0
  while runMs >= 1 and bucket < 24 do runMs = runMs / 2 bucket = bucket + 1 end
  local field = queueName .. ':' .. outcome .. ':' .. bucket
  counts[field] = (counts[field] or 0) + 1
  if waitMs then
    bucket = 0
    while waitMs >= 1 and bucket < 24 do waitMs = waitMs / 2 bucket = bucket + 1 end
    field = queueName .. ':wait:' .. bucket
    counts[field] = (counts[field] or 0) + 1
  end
end
local function writeCounts(nowMs)
  local key, fresh = statsKey(string.format('%.0f', math.floor(nowMs / 60000))), false
  for field, count in pairs(counts) do
    if redis.pcall('HINCRBY', key, field, count) == count then fresh = true end
  end
  if fresh then redis.pcall('EXPIRE', key, 90000) end
end
