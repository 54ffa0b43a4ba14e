-- Lets the jobs of a paused batch start again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
-- include: keys, waking, fair_share, hints
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
redis.call('HDEL', key, 'is_paused')
make_ready(ARGV[1])
wake_if_any(queue_key(unpack(redis.call('HMGET', key, 'queue', 'environment'))))
tell(ARGV[1], 'changed')
return 1
