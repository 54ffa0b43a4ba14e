-- Lets a schedule start nothing.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  name
-- Returns  1, or 0 if there is none
-- include: keys, firing
local key = schedule_key(ARGV[1], ARGV[2])
local environment = redis.call('HGET', key, 'environment')
if not environment then return 0 end
redis.call('HSET', key, 'is_paused', 1)
redis.call('ZREM', queue_key(ARGV[1], environment) .. ':scheduled', '*' .. ARGV[2])
return 1
