-- Gives an order to a worker.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  order: 'stop'
-- Returns  1, or 0 if there is no such worker
-- include: keys, orders
if redis.call('HEXISTS', worker_key(ARGV[1]), 'beat') == 0 then return 0 end
order_worker(ARGV[1], ARGV[2])
return 1
