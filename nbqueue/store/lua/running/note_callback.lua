-- Keeps what went wrong in the callback of a job of a lease. Who has lost the lease cannot write.
-- Sent twice it acts once: it tells what shall be there.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  batch
-- ARGV[4]  index
-- ARGV[5]  attempt
-- ARGV[6]  the error, in words
-- Returns  'ok'; and where nothing was written 'lost': the lease is not this worker's, or the job not in it, or 'gone':
--          no such batch
-- include: keys, leases
local held = redis.call('HGET', worker_key(ARGV[1]) .. ':leases', ARGV[2])
local lease, index = held and read_lease(held), tonumber(ARGV[4])
if not lease or lease.batch ~= ARGV[3] or index < lease.start or lease.stop <= index then return 'lost' end
local key = batch_key(ARGV[3])
if redis.call('EXISTS', key) == 0 then return 'gone' end
redis.call('HSETNX', key, 'has_callback_errors', 1)
redis.call('HSET', key .. ':callbacks', ARGV[4], ARGV[5] .. ' ' .. ARGV[6])
return 'ok'
