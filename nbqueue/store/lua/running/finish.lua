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
-- ARGV[9]  number of jobs that failed and run again
-- ARGV[10...] field and record of each block or job, then index, digest and summary (JSON) of each failure, then index,
--          attempt, seconds until it runs again and record of each that does; a record that begins with '@' is the
--          name of a field of outcomes:bulk, which the same transaction has written
-- Returns  'ok' | 'gone': no such batch | and where nothing was written 'lost': the lease is not this worker's, or
--          'done': this worker has finished or given back these jobs before
-- include: keys, clock, runs, leases, counters, charges, ending, hints, bulk, schedule, tries, settled,
--          waking, deciding
-- on demand: resolve of resolving
local worker, number, id = ARGV[1], ARGV[2], ARGV[3]
local from, upto, busy = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local records, failures, again = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local leases = worker_key(worker) .. ':leases'
local held = redis.call('HGET', leases, number)
redis.call('HDEL', leases, number)
local key = batch_key(id)

-- What was written in bulk goes, unless it was recorded before: then this is the same request once more.
local function refuse(answer)
  for i = 10, 9 + 2 * records, 2 do
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
local name, environment, weight, cost, is_canceled, has_dependents, has_decided = unpack(redis.call('HMGET', key,
  'queue', 'environment', 'weight', 'cost_ns', 'is_canceled', 'has_dependents', 'has_decided'))
if not name then return refuse('gone') end
local queue = queue_key(name, environment)
if has_decided then forget_decided(key, from, upto) end

local position = 10
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
position = position + 3 * failures
local begins, n, canceled = from, upto - from, 0
if again > 0 then redis.call('HSET', key, 'has_attempts', 1) end
for i = position, position + 4 * again - 1, 4 do
  local index = tonumber(ARGV[i])
  local run = write_run(index, index + 1)
  keep_try(key, index, tonumber(ARGV[i + 1]), ARGV[i + 3])
  if begins < index then
    redis.call('RPUSH', key .. ':ended', write_run(begins, index))
    if has_dependents then note_settled(id, begins, index, 'ended') end
  end
  begins = index + 1
  if is_canceled or redis.call('SREM', key .. ':cancels', index) == 1 then
    redis.call('RPUSH', key .. ':canceled', run)
    redis.call('RPUSH', key .. ':ended', 'c' .. run)
    if has_dependents then note_settled(id, index, index + 1, 'canceled') end
    canceled = canceled + 1
  else
    schedule(key, id, queue, index, index + 1, now() + tonumber(ARGV[i + 2]))
  end
end
if canceled > 0 then count(key, queue, 'canceled', canceled) end
if again > canceled then count(key, queue, 'scheduled', again - canceled) end
local running = count(key, queue, 'started', -n)
if n > failures + again then count(key, queue, 'finished', n - failures - again) end
if failures > 0 then count(key, queue, 'failed', failures) end
redis.call('HINCRBY', key, 'busy', busy)
local mean = 1000 * busy / n
redis.call('HSET', key, 'cost_ns', math.floor(cost and 0.7 * cost + 0.3 * mean or mean))
charge(id, key, queue, weight, busy - n * lease.cost)
if begins < upto then
  redis.call('RPUSH', key .. ':ended', upto - begins == 1 and tostring(begins) or write_run(begins, upto))
  if has_dependents then note_settled(id, begins, upto, 'ended') end
end
if records == 1 and n == 1 and #ARGV[11] < 1024 and string.sub(ARGV[11], 1, 1) ~= '@' then
  tell(id, 'outcome ' .. from .. ' ' .. ARGV[11])
else
  tell(id, 'changed')
end
if running == 0 then check_end(id) end
if has_dependents and resolve() > 0 then wake(queue) end
return 'ok'
