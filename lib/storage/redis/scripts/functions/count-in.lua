-- Counts of one call, by field of this minute's stats: <queue>:<outcome>:<bucket of the run time> and, for a first attempt,
-- <queue>:wait:<bucket>. Bucket b holds times below 2^b ms. One HINCRBY a field; EXPIRE only when a field is new.
-- Kept apart until the end, and each bucket found once a call: in a batch most names and many times are the same.
local counts, bucketOf = {}, {}
local function countIn(queueName, outcome, ms, times)
  local bucket = ms >= 1 and bucketOf[ms] or 0
  if ms >= 1 and bucket == 0 then
    local rest = ms
    while rest >= 1 and bucket < 24 do rest = rest / 2 bucket = bucket + 1 end
    bucketOf[ms] = bucket
  end
  local outcomes = counts[queueName] or {}
  counts[queueName] = outcomes
  local buckets = outcomes[outcome] or {}
  outcomes[outcome] = buckets
  buckets[bucket] = (buckets[bucket] or 0) + times
end
local function writeCounts(nowMs)
  local key, fresh = statsKey(string.format('%.0f', math.floor(nowMs / 60000))), false
  for queueName, outcomes in pairs(counts) do
    for outcome, buckets in pairs(outcomes) do
      for bucket, count in pairs(buckets) do
        local field = queueName .. ':' .. outcome .. ':' .. bucket
        -- A number as an argument is made a text at a price.
        if redis.pcall('HINCRBY', key, field, count == 1 and '1' or count) == count then fresh = true end
      end
    end
  end
  if fresh then redis.pcall('EXPIRE', key, 90000) end
end
