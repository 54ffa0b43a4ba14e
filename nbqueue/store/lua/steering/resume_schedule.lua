-- Lets a schedule that was paused go on. What it has missed meanwhile, it does not catch up with.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  name
-- ARGV[3]  when it is due next, in seconds since the epoch
-- Returns  1, or 0 if it is not paused, -1 if there is none
-- include: keys, firing, waking
local key = schedule_key(ARGV[1], ARGV[2])
local environment = redis.call('HGET', key, 'environment')
if not environment then return -1 end
if redis.call('HDEL', key, 'is_paused') == 0 then return 0 end
redis.call('HSET', key, 'due', ARGV[3])
local queue = queue_key(ARGV[1], environment)
redis.call('ZADD', queue .. ':scheduled', ARGV[3], '*' .. ARGV[2])
wake(queue)
return 1
