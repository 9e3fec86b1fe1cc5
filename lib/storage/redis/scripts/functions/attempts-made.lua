-- How many attempts began. A first attempt does not write that: its fence says that it is there.
local function attemptsMade(attempts, fence)
  if attempts ~= '' then return whole(attempts) end
  return fence > 0 and 1 or 0
end
