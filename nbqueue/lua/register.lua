-- Makes a worker known; where it is being waited for, that ends. Sent twice it acts once.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2...] fields of its description and their values
-- Returns  1
redis.call('HSETNX', worker_key(ARGV[1]), 'beat', 1)
redis.call('HSETNX', worker_key(ARGV[1]), 'since', string.format('%.3f', now()))
for i = 2, #ARGV, 2 do redis.call('HSET', worker_key(ARGV[1]), ARGV[i], ARGV[i + 1]) end
local h = redis.call('HMGET', worker_key(ARGV[1]), 'queues', 'environment')
for queue in string.gmatch(h[1] or '', '%S+') do redis.call('DEL', queue_key(queue, h[2] or '') .. ':starting') end
redis.call('ZADD', prefix .. 'workers', 'NX', 1, ARGV[1])
return 1
