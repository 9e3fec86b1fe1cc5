-- The time of the server in milliseconds and in microseconds, as texts. Texts are joined: a number made a text by string.format costs
-- as much as a row of an index.
local function timeTexts(now)
  local micros = string.sub('00000' .. now[2], -6)
  return now[1] .. string.sub(micros, 1, 3), now[1] .. micros
end
