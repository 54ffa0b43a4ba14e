-- Keeps what a job shall be known by, told by who looks at it: a job that starts afterwards finds it.
-- Sent twice it acts once: it tells what shall be there.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- ARGV[3]  JSON
-- Returns  1; 0 if the job was deleted, or -1 if there is no such batch
-- include: keys
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
if redis.call('SISMEMBER', key .. ':forgotten', ARGV[2]) == 1 then return 0 end
redis.call('HSET', key, 'has_meta', 'given')
redis.call('HSET', key .. ':meta', ARGV[2], ARGV[3])
local ttl = redis.call('TTL', key)
if ttl > 0 then redis.call('EXPIRE', key .. ':meta', ttl) end
return 1
