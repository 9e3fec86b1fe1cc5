-- Index writes, one command for each table in `commands`. By pcall: the record is the truth, and an index key of a
-- wrong type must not stop a script between two writes. The first error is kept for the answer.
local indexError
local function writeIndex(commands)
  for _, command in pairs(commands) do
    local reply = redis.pcall(unpack(command))
    if type(reply) == 'table' and reply.err then indexError = indexError or reply.err end
  end
end
