-- Whether entry `a` stands behind entry `b`. Of one length they compare as texts: the time in front has thirteen digits until 2286.
local function isAfter(a, b)
  if #a == #b then return a > b end
  local ms, sequence = string.match(a, '^(%d+)%-(%d+)$')
  local otherMs, otherSequence = string.match(b, '^(%d+)%-(%d+)$')
  ms, otherMs = tonumber(ms), tonumber(otherMs)
  if ms ~= otherMs then return ms > otherMs end
  return tonumber(sequence) > tonumber(otherSequence)
end
