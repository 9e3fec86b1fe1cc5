-- Read records for a list: of args no more than so many bytes, of errors the last one, no return value. Writes nothing.
-- KEYS    leases
-- ARGV    root, group, bytes, how many other fields, their names, then the ids
-- Returns for each id args, the last error, bytes of args and errors that were left out, then the other fields; '' where
--         there is none; BROKEN alone for a key of another type
-- Repeat  The same, of what is stored by then.
-- Memory  Nothing here needs memory: it only reads.
local bytes, count = tonumber(ARGV[3]), tonumber(ARGV[4])
local names = {}
for i = 1, count do names[i] = ARGV[4 + i] end
local rows = {}
for i = 5 + count, #ARGV do
  local record = recordKey(ARGV[i])
  local v = redis.pcall('HMGET', record, unpack(names))
  local row
  if v.err then
    row = { 'BROKEN' }
  else
    local errorsBytes = redis.call('HSTRLEN', record, 'errors')
    local first = redis.call('HMGET', record, 'args', 'args2')
    local args = joinArgs(record, type(first[1]) == 'string' and first[1] or '', first[2])
    local argsBytes = #args
    if argsBytes > bytes then
      -- Not half of a character: what a cut may have left of one goes, too.
      local tail = string.gsub(string.sub(args, math.max(1, bytes - 3), bytes), '[\192-\255][\128-\191]*$', '')
      args = string.sub(args, 1, math.max(0, bytes - 4)) .. tail
    end
    local last = ''
    if errorsBytes > 0 then
      local errors = redis.call('HGET', record, 'errors')
      -- Anchored: else a text without a line break is tried from each of its characters.
      last = string.match(errors, '^.*\n(.*)$') or errors
    end
    row = { args, last, string.format('%.0f', argsBytes - #args + errorsBytes - #last) }
    for k = 1, count do row[3 + k] = v[k] or '' end
  end
  rows[#rows + 1] = { unpack(row) }
end
return { unpack(rows) }
