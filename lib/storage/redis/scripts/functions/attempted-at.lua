-- When the last attempt began, in ms as a text; '' when there was none. A first attempt does not write it: its fence is that time in
-- microseconds.
local function attemptedAt(lastAttemptedAt, attempts, fence)
  if lastAttemptedAt ~= '' or attempts ~= 1 or fence == 0 then return lastAttemptedAt end
  return string.format('%.0f', math.floor(fence / 1000))
end
