-- True for an error of redis.pcall; the first one is kept for the answer. The record is the truth: a shared key of a wrong
-- type must not stop a script between two writes. What a server answers that takes no writes now is raised: it answers that
-- to the first one already, so nothing was written yet.
local indexError
local function noteError(reply)
  if type(reply) ~= 'table' or not reply.err then return false end
  for _, word in ipairs({ 'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS' }) do
    if string.find(reply.err, word, 1, true) then error(reply.err) end
  end
  indexError = indexError or reply.err
  return true
end
