-- Records the outcomes of the first jobs of a lease, or of all of it. Sent twice it acts once: the lease has moved on.
-- It begins with deleting the lease's field: a script whose first write frees memory passes when memory is full.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  batch
-- ARGV[4]  index of the first job
-- ARGV[5]  index after the last job
-- ARGV[6]  microseconds that the jobs took
-- ARGV[7]  number of records
-- ARGV[8]  number of failures
-- ARGV[9...] field and record of each block or job, then index, digest and summary (JSON) of each failure; a record
--          that begins with '@' is the name of a field of outcomes:bulk, which the same transaction has written
-- Returns  'ok' | 'gone': no such batch | and where nothing was written 'lost': the lease is not this worker's, or
--          'done': this worker has finished or given back these jobs before
-- include: keys, runs, leases, counters, charges, ending, hints, bulk
local worker, number, id = ARGV[1], ARGV[2], ARGV[3]
local from, upto, busy = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local records, failures = tonumber(ARGV[7]), tonumber(ARGV[8])
local leases = worker_key(worker) .. ':leases'
local held = redis.call('HGET', leases, number)
redis.call('HDEL', leases, number)
local key = batch_key(id)

-- What was written in bulk goes, unless it was recorded before: then this is the same request once more.
local function refuse(answer)
  for i = 9, 8 + 2 * records, 2 do
    local name = string.match(ARGV[i + 1], '^@(.+)')
    if name and redis.call('HGET', key .. ':outcomes', ARGV[i]) ~= ARGV[i + 1] then
      drop_bulk(key .. ':outcomes:bulk', name)
    end
  end
  return answer
end

if not held then
  local claimed = tonumber(redis.call('HGET', worker_key(worker), 'claimed') or '0')
  return refuse(tonumber(number) <= claimed and 'done' or 'lost')
end
local lease = read_lease(held)
if lease.batch ~= id or lease.start ~= from or upto > lease.stop then
  redis.call('HSET', leases, number, held)
  return refuse(lease.start > from and 'done' or 'lost')
end
if upto < lease.stop then
  lease.start = upto
  redis.call('HSET', leases, number, write_lease(lease))
end
local name, environment, weight, cost = unpack(redis.call('HMGET', key, 'queue', 'environment', 'weight', 'cost'))
if not name then return refuse('gone') end
local queue = queue_key(name, environment)

local position = 9
for i = position, position + 2 * records - 1, 2 do
  redis.call('HSET', key .. ':outcomes', ARGV[i], ARGV[i + 1])
  if string.sub(ARGV[i + 1], 1, 1) == '@' then redis.call('HSET', key, 'has_bulk_outcomes', 1) end
end
position = position + 2 * records
for i = position, position + 3 * failures - 1, 3 do
  redis.call('HSET', key .. ':failed', ARGV[i], ARGV[i + 1])
  redis.call('HSETNX', key .. ':errors', ARGV[i + 1], ARGV[i + 2])
  redis.call('HINCRBY', key .. ':errors', 'n:' .. ARGV[i + 1], 1)
end
local n = upto - from
local running = count(key, queue, 'started', -n)
if n > failures then count(key, queue, 'finished', n - failures) end
if failures > 0 then count(key, queue, 'failed', failures) end
redis.call('HINCRBY', key, 'busy', busy)
local mean = busy / n
redis.call('HSET', key, 'cost', string.format('%.3f', cost and 0.7 * cost + 0.3 * mean or mean))
charge(id, key, queue, weight, busy - n * lease.cost)
redis.call('RPUSH', key .. ':ended', n == 1 and tostring(from) or write_run(from, upto))
if records == 1 and n == 1 and #ARGV[10] < 1024 and string.sub(ARGV[10], 1, 1) ~= '@' then
  tell(id, 'outcome ' .. from .. ' ' .. ARGV[10])
else
  tell(id, 'changed')
end
if running == 0 then check_end(id) end
return 'ok'
