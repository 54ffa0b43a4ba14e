-- Has how the only job of a lease ends kept until its callback has been called, in another process than that which has
-- died with it. The job waits for that in front of the queue.
-- Sent twice it acts once: the lease is gone. It begins with deleting the lease's field, as finish does.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  index
-- ARGV[4]  record of its outcome; '-' if it was canceled
-- Returns  'ok' | 'lost': the lease is not this worker's, or another one
-- include: keys, leases, charges, taking_back, deciding, fair_share
local worker, number, index = ARGV[1], ARGV[2], tonumber(ARGV[3])
local leases = worker_key(worker) .. ':leases'
local held = redis.call('HGET', leases, number)
redis.call('HDEL', leases, number)
if not held then return 'lost' end
local lease = read_lease(held)
if lease.start ~= index or lease.stop ~= index + 1 then
  redis.call('HSET', leases, number, held)
  return 'lost'
end
local key = batch_key(lease.batch)
local name, environment, weight = unpack(redis.call('HMGET', key, 'queue', 'environment', 'weight'))
if not name then return 'ok' end
charge(lease.batch, key, queue_key(name, environment), weight, -lease.cost)
decide(key, index, ARGV[4])
put_back(lease.batch, index, index + 1, 's')
make_ready(lease.batch)
return 'ok'
