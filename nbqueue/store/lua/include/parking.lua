-- Workers that have nothing to do are parked: who submits a single job leases it to one of them at once, and puts it
-- where that worker looks, so that it need not claim. The lease has the number of the claim that found nothing: asked
-- for once more, that claim gives this lease.
-- include: keys, clock, leases

-- Parks a worker for its queues, which are arguments of the script from a position on.
local function park(worker, number, environment, from)
  if from > #ARGV then return end
  redis.call('HSET', worker_key(worker), 'parked', number)
  local at = math.floor(now() * 1000)
  for i = from, #ARGV do redis.call('ZADD', queue_key(ARGV[i], environment) .. ':parked', at, worker) end
end

-- A worker that is no more.
local function unpark(worker)
  local queues, environment = unpack(redis.call('HMGET', worker_key(worker), 'queues', 'environment'))
  for name in string.gmatch(queues or '', '%S+') do
    redis.call('ZREM', queue_key(name, environment or '') .. ':parked', worker)
  end
end

-- A worker that may get the next job of a queue, and the number of its lease; nil where it is for a claim to say what
-- comes next. One that has not been heard of for longer than it blocks is passed over: it may be asleep.
local function parked_worker(name, queue)
  if redis.call('EXISTS', queue .. ':ready', queue .. ':suspects', queue .. ':ttl', prefix .. 'suspended',
    prefix .. 'settled', prefix .. 'queue:' .. name .. ':paused') > 0 then return nil end
  for _ = 1, 10 do
    local worker, at = unpack(redis.call('ZPOPMAX', queue .. ':parked'))
    if not worker or math.abs(now() * 1000 - tonumber(at)) > 2500 then return nil end
    local parked, claimed = unpack(redis.call('HMGET', worker_key(worker), 'parked', 'claimed'))
    if parked and tonumber(parked) > tonumber(claimed or '0') then return worker, parked end
  end
end

-- Leases a job to a parked worker, and tells it.
local function hand(worker, number, lease, description, record)
  local key = worker_key(worker)
  redis.call('HSET', key .. ':leases', number, write_lease(lease))
  redis.call('HSET', key, 'claimed', number)
  redis.call('RPUSH', key .. ':handed', number, lease.batch, lease.start, description, record)
end

-- The number of a lease that a worker was handed, and has not heard of.
local function handed_to(worker)
  return redis.call('LINDEX', worker_key(worker) .. ':handed', 0)
end
