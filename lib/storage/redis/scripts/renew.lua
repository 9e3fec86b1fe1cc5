-- Renew the leases of running attempts. RUNNING -> RUNNING; the attempt stays the same.
-- KEYS    leases
-- ARGV    root, group, consumer, leaseMs, starts ('1': these attempts waited to run alone and start now, else ''), then id, token for
--         each (at most 100)
-- Returns RENEWED | CANCELLED | LOST | BROKEN for each, then an index error or nothing
--         CANCELLED, LOST: the token is gone, by a person's wish or else; nothing was written for it.
-- Repeat  Moves the deadlines once more, changes nothing else.
-- Memory  The first write is a ZREM: it passes at maxmemory, and so does what follows.
local group, consumer, leaseMs = ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = redis.call('TIME')
local deadline = string.format('%.0f', msOf(now) + leaseMs)
local answers, live, rows, claims = {}, { 'ZREM', leases }, { 'ZADD', leases }, {}
for i = 6, #ARGV, 2 do
  local id, token = ARGV[i], ARGV[i + 1]
  local v = redis.pcall('HMGET', recordKey(id), 'leaseToken', 'entryId', 'queueName', 'priority', 'status')
  if v.err then
    answers[#answers + 1] = 'BROKEN'
  elseif v[1] == token and token ~= '' and v[5] == 'RUNNING' and type(v[3]) == 'string' then
    answers[#answers + 1] = 'RENEWED'
    live[#live + 1] = id
    rows[#rows + 1] = deadline
    rows[#rows + 1] = id
    if type(v[2]) == 'string' and string.find(v[2], '^%d+%-%d+$') then
      local stream = streamKey(v[3], v[4])
      local claim = claims[stream] or { 'XCLAIM', stream, group, consumer, 0 }
      claims[stream] = claim
      claim[#claim + 1] = v[2]
    end
  else
    local cancelled = redis.call('HGET', recordKey(id), 'lastMove') == 'cancel ' .. token
    answers[#answers + 1] = cancelled and 'CANCELLED' or 'LOST'
  end
end
if #live == 2 then return { unpack(answers) } end
writeIndex(live)
writeIndex(rows)
for i = 3, #live do
  local key = recordKey(live[i])
  redis.call('HSET', key, 'leaseUntil', deadline)
  if ARGV[5] == '1' then redis.call('HSET', key, 'waitToken', 'started') end
end
if group ~= '' then
  -- Without its group a stream has no rows to move; the group is made anew by those who read.
  for _, claim in pairs(claims) do
    claim[#claim + 1] = 'JUSTID'
    redis.pcall(unpack(claim))
  end
end
answers[#answers + 1] = indexError
return { unpack(answers) }
