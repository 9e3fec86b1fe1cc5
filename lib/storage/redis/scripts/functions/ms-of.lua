-- A time of the server in milliseconds.
local function msOf(now)
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
