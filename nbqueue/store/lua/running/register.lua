-- Makes a worker known; where it is being waited for, that ends. Sent twice it acts once.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  '1' if it was registered before, and connects again
-- ARGV[3...] fields of its description and their values
-- Returns  1, or 0 if it was registered before and is not any more: it was taken for dead, and holds nothing
-- include: keys, clock
local worker, again = ARGV[1], ARGV[2] == '1'
local key = worker_key(worker)
if again and redis.call('HEXISTS', key, 'beat') == 0 then return 0 end
redis.call('HSETNX', key, 'beat', 1)
redis.call('HSETNX', key, 'since', string.format('%.3f', now()))
for i = 3, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
local queues, environment = unpack(redis.call('HMGET', key, 'queues', 'environment'))
for name in string.gmatch(queues or '', '%S+') do
  redis.call('DEL', queue_key(name, environment or '') .. ':starting')
end
redis.call('ZADD', prefix .. 'workers', 'NX', 1, worker)
return 1
