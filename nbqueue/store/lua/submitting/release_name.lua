-- Takes a name back from a batch that was not submitted.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  name
-- ARGV[2]  batch
-- Returns  1, or 0 if the batch does not have the name, or is there
-- include: keys
local key = prefix .. 'named:' .. ARGV[1]
if redis.call('HGET', key, 'batch') ~= ARGV[2] or redis.call('EXISTS', batch_key(ARGV[2])) == 1 then return 0 end
return redis.call('DEL', key)
