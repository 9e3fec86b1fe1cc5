-- Arguments as the values of a record's fields: that of `args`, and `args2`, `args3`, `args4` with theirs. A hash whose values all
-- take 64 bytes or less is one compact list on the server: half the memory of a table. Longer ones than four pieces stay whole.
-- Cut between characters: clients read each field as UTF-8.
local function cutArgs(args)
  local size, rest = #args, {}
  if size <= 64 or size > 244 then return args, rest end
  local first, from = nil, 1
  for piece = 1, 4 do
    if from > size then break end
    local to = math.min(from + 63, size)
    local byte = string.byte(args, to + 1)
    while to > from + 60 and byte and byte >= 128 and byte < 192 do
      to = to - 1
      byte = string.byte(args, to + 1)
    end
    if piece == 1 then
      first = string.sub(args, from, to)
    else
      rest[#rest + 1] = 'args' .. piece
      rest[#rest + 1] = string.sub(args, from, to)
    end
    from = to + 1
  end
  return first, rest
end
