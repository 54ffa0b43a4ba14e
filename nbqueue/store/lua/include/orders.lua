-- Orders to workers.
-- include: keys, clock, holders

-- Orders are numbered by time, in microseconds, and upwards when the clock is set back: what a worker acknowledged by
-- its number must not take a later order with it.
local function order_worker(worker, order)
  local key = worker_key(worker)
  local last = tonumber(redis.call('HGET', key, 'ordered') or '0')
  local at = string.format('%.0f', math.max(math.floor(now() * 1000000), last + 1))
  redis.call('HSET', key, 'ordered', at)
  redis.call('ZADD', key .. ':orders', at, at .. ' ' .. order)
  redis.call('PUBLISH', key, 'orders')
end

-- An order to cancel means the leases that its worker has now: it ends with the number of the newest. What the worker
-- claims later was queued again since then, and runs.
local function order_cancel(worker, what)
  order_worker(worker, what .. ' ' .. (redis.call('HGET', worker_key(worker), 'claimed') or '0'))
end

-- Orders those that run jobs of a batch to cancel them.
local function cancel_running(id)
  local ordered = {}
  for _, lease in ipairs(leases_of(id)) do
    if not ordered[lease.worker] then order_cancel(lease.worker, 'cancel ' .. id) end
    ordered[lease.worker] = true
  end
end
