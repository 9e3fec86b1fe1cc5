-- True for an error of redis.pcall; the first one is kept for the answer. The record is the truth: a shared key of a wrong
-- type must not stop a script between two writes. Out of memory is raised: only a first write is refused for that, so
-- nothing was written yet.
local indexError
local function noteError(reply)
  if type(reply) ~= 'table' or not reply.err then return false end
  if string.find(reply.err, 'OOM', 1, true) then error(reply.err) end
  indexError = indexError or reply.err
  return true
end
