-- Lets the jobs of a paused batch start again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
redis.call('HDEL', key, 'is_paused')
make_ready(ARGV[1])
local h = redis.call('HMGET', key, 'queue', 'environment')
wake_if_any(queue_key(h[1], h[2]))
tell(ARGV[1], 'changed')
return 1
