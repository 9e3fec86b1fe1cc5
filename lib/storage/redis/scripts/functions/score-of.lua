-- A stored time as the score of an index row: one score that Redis does not take would refuse the rows of a whole batch.
local function scoreOf(text)
  return type(text) == 'string' and whole(text) > 0 and text or '0'
end
