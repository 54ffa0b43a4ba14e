-- Reads what a job has printed, in all its attempts.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- Returns  {id, {"job", "index attempt at", stream, text, ...}} of each entry, the oldest first
-- include: keys
local found, job = {}, ARGV[2] .. ' '
for _, entry in ipairs(redis.call('XRANGE', batch_key(ARGV[1]) .. ':output', '-', '+')) do
  if string.sub(entry[2][2], 1, #job) == job then found[#found + 1] = entry end
end
return found
