-- Gives jobs of a lease back, from its beginning or its end: to the queue, or to the canceled ones if that was asked
-- for. What was suspect stays so.
-- Sent twice it acts once: the lease has shrunk. It begins with deleting the lease's field, as finish does.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  index of the first job to give back
-- ARGV[4]  index after the last job to give back
-- ARGV[5]  '' or, if a process died of the first job, how
-- Returns  'ok' | 'lost'
-- include: keys, leases, charges, taking_back
local worker, number, from, upto, death = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local leases = worker_key(worker) .. ':leases'
local held = redis.call('HGET', leases, number)
redis.call('HDEL', leases, number)
if not held then return 'lost' end
local lease = read_lease(held)
local start, stop = lease.start, lease.stop
if from < start or upto > stop or from >= upto or (from > start and upto < stop) then
  redis.call('HSET', leases, number, held)
  return 'lost'
end
if from > start then
  lease.stop = from
  redis.call('HSET', leases, number, write_lease(lease))
elseif upto < stop then
  lease.start = upto
  redis.call('HSET', leases, number, write_lease(lease))
end
local key = batch_key(lease.batch)
local name, environment, weight = unpack(redis.call('HMGET', key, 'queue', 'environment', 'weight'))
if not name then return 'ok' end
charge(lease.batch, key, queue_key(name, environment), weight, -(upto - from) * lease.cost)
if death ~= '' then
  after_death(lease.batch, from, death)
  from = from + 1
end
give_back(lease.batch, from, upto, lease.kind)
return 'ok'
