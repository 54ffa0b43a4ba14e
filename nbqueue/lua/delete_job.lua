-- Forgets the call and the outcome of one job that has ended.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- ARGV[3]  a record that says that it was deleted
-- Returns  1, or -1 if there is no such batch
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
redis.call('HSET', key .. ':outcomes', ARGV[2], ARGV[3])
local ttl = redis.call('TTL', key)
if ttl > 0 then redis.call('EXPIRE', key .. ':outcomes', ttl) end
redis.call('HDEL', key .. ':failed', ARGV[2])
redis.call('HDEL', key .. ':calls', ARGV[2])
if tonumber(redis.call('HGET', key, 'per_block')) == 1 then redis.call('HDEL', key .. ':calls', 'b' .. ARGV[2]) end
return 1
