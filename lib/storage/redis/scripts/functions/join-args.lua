-- The arguments of a record from its fields `args` and `args2`. Only a piece of 61 bytes or more has another behind it (args-pieces.ts).
local function joinArgs(record, first, second)
  if type(second) ~= 'string' then return first end
  if #second < 61 then return first .. second end
  local v = redis.call('HMGET', record, 'args3', 'args4')
  return first .. second .. (type(v[1]) == 'string' and v[1] or '') .. (type(v[2]) == 'string' and v[2] or '')
end
