-- A stored number as a number; what is missing or malformed counts as 0. Digits only: `tonumber` also takes nan, inf, 0x1 and spaces,
-- and one score that Redis does not take would refuse the ZADD of a whole batch.
local function whole(text)
  local number = string.find(text, '^%d+$') and tonumber(text)
  return number and number <= 9007199254740991 and number or 0
end
