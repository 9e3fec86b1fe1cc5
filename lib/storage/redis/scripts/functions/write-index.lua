-- One index write. Its error is kept for the answer.
-- A sorted set of up to 128 short members is a list (zset-max-listpack-entries), and ZADD walks all of it twice for each row: with a
-- hundred attempts in hand that was a fifth of what the server does for a task (instructions, callgrind, Redis 7.0). A member of
-- more than 64 bytes makes it a skip list for as long as the key lives, so one comes with many rows, and goes again at once.
local longMember = '-----------------------------------------------------------------'
local function writeIndex(command)
  local size = #command
  local areMany = command[1] == 'ZADD' and size >= 34
  if areMany then command[size + 1], command[size + 2] = '0', longMember end
  noteError(redis.pcall(unpack(command)))
  if areMany then noteError(redis.pcall('ZREM', command[2], longMember)) end
end
