-- Gives an order to a worker.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  order: 'stop'
-- Returns  1, or 0 if there is no such worker
if redis.call('HEXISTS', worker_key(ARGV[1]), 'beat') == 0 then return 0 end
local at = order_number()
redis.call('ZADD', worker_key(ARGV[1]) .. ':orders', at, at .. ' ' .. ARGV[2])
redis.call('PUBLISH', worker_key(ARGV[1]), 'orders')
return 1
