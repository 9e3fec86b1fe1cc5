-- Index writes, one command for each table in `commands`.
local function writeIndex(commands)
  for _, command in pairs(commands) do noteError(redis.pcall(unpack(command))) end
end
