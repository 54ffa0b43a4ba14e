-- Forgets a schedule. What runs of it, and what it has done, stays.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  name
-- Returns  1, or 0 if there is none
-- include: keys, code, firing
local key = schedule_key(ARGV[1], ARGV[2])
local environment, functions = unpack(redis.call('HMGET', key, 'environment', 'functions'))
if not environment then return 0 end
redis.call('DEL', key)
redis.call('SREM', prefix .. 'schedules', ARGV[1] .. ':' .. ARGV[2])
redis.call('ZREM', queue_key(ARGV[1], environment) .. ':scheduled', '*' .. ARGV[2])
unlink_code('*' .. ARGV[1] .. ':' .. ARGV[2], functions, 0)
return 1
