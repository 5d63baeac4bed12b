-- List some of the keys of this deployment, and the bytes that they take.
local found = redis.call('SCAN', asked.cursor, 'MATCH', asked.pattern, 'COUNT', 500)
local bytes = 0
if asked.measured then
  for _, key in ipairs(found[2]) do
    local size = redis.pcall('MEMORY', 'USAGE', key)
    if type(size) == 'number' then bytes = bytes + size end
  end
end
return {found[1], bytes, found[2]}
