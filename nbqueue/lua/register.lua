-- Makes a worker known. Sent twice it acts once.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2...] fields of its description and their values
-- Returns  1
redis.call('HSETNX', worker_key(ARGV[1]), 'beat', 1)
redis.call('HSETNX', worker_key(ARGV[1]), 'since', string.format('%.3f', now()))
for i = 2, #ARGV, 2 do redis.call('HSET', worker_key(ARGV[1]), ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', prefix .. 'workers', 'NX', 1, ARGV[1])
return 1
