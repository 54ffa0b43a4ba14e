-- Says that a worker is alive and what it does; hands it the orders that it has not acknowledged.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the last order that the worker has carried out
-- ARGV[3...] fields of its description that changed, and their values
-- Returns  {'gone'} if the worker is not registered (it was taken for dead), or {'ok', order, ...}
-- include: keys
-- on demand: close_some of ending
local key = worker_key(ARGV[1])
if redis.call('HEXISTS', key, 'beat') == 0 then return { 'gone' } end
redis.call('ZREMRANGEBYSCORE', key .. ':orders', '-inf', ARGV[2])
redis.call('ZADD', prefix .. 'workers', redis.call('HINCRBY', key, 'beat', 1), ARGV[1])
for i = 3, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
local orders = redis.call('ZRANGE', key .. ':orders', 0, -1)
table.insert(orders, 1, 'ok')
if redis.call('EXISTS', prefix .. 'open') == 1 then close_some(100) end
return orders
