-- Index writes, one command for each table in `commands`.
local function writeIndexes(commands)
  for _, command in pairs(commands) do writeIndex(command) end
end
