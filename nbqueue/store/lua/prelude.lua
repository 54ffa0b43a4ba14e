-- What several transitions share; put in front of each of them. Names and types of keys: see keys.py.
local prefix = KEYS[1]

local function batch_key(id) return prefix .. 'batch:' .. id end
local function worker_key(id) return prefix .. 'worker:' .. id end
local function queue_key(queue, environment) return prefix .. 'queue:' .. queue .. ':' .. environment end

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- A run is "10-40": the jobs from 10 to 39. "s10-40" is suspect: a worker died with it.
local function read_run(run)
  local suspect, start, stop = string.match(run, '^(s?)(%d+)%-(%d+)$')
  return tonumber(start), tonumber(stop), suspect
end

local function write_run(start, stop, suspect)
  return string.format('%s%d-%d', suspect or '', start, stop)
end

-- A lease is "batch start stop cost kind": cost in microseconds a job as it was charged;
-- kind "" is usual, "s" is suspect, "x" is suspect and alone on its worker.
local function read_lease(lease)
  local id, start, stop, cost, kind = string.match(lease, '^(%S+) (%d+) (%d+) (%d+) (%a?)$')
  return { batch = id, start = tonumber(start), stop = tonumber(stop), cost = tonumber(cost), kind = kind }
end

local function write_lease(lease)
  return string.format('%s %d %d %d %s', lease.batch, lease.start, lease.stop, lease.cost, lease.kind)
end

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

-- The leases on jobs of a batch, each with its worker.
local function leases_of(id)
  local found = {}
  for _, worker in ipairs(redis.call('ZRANGE', prefix .. 'workers', 0, -1)) do
    for _, held in ipairs(redis.call('HVALS', worker_key(worker) .. ':leases')) do
      local lease = read_lease(held)
      if lease.batch == id then
        lease.worker = worker
        found[#found + 1] = lease
      end
    end
  end
  return found
end

-- One token wakes one idle worker; whoever leaves jobs behind puts it back.
local function wake(queue)
  if redis.call('EXISTS', queue .. ':wake') == 0 then
    redis.call('RPUSH', queue .. ':wake', '1')
    redis.call('EXPIRE', queue .. ':wake', 3600)
  end
end

local function wake_if_any(queue)
  if redis.call('EXISTS', queue .. ':ready', queue .. ':suspects') > 0 then wake(queue) end
end

local function tell(id, message)
  redis.call('PUBLISH', batch_key(id), message)
end

-- Lets workers find a batch that has jobs to take. It starts at the queue's present virtual time.
local function make_ready(id, at_front)
  local key = batch_key(id)
  local h = redis.call('HMGET', key, 'queue', 'environment', 'is_paused', 'tag')
  if not h[1] or h[3] or redis.call('EXISTS', key .. ':queued') == 0 then return end
  local queue = queue_key(h[1], h[2])
  local lowest = redis.call('ZRANGE', queue .. ':ready', 0, 0, 'WITHSCORES')
  -- Where nothing was claimed for so long that the clock has expired, those that wait tell the time.
  local clock = tonumber(redis.call('GET', queue .. ':clock') or lowest[2] or '0')
  if at_front then
    -- What is in front stays where it is: moved further each time, it would take the clock back with it.
    if lowest[1] ~= id then
      redis.call('ZADD', queue .. ':ready', (lowest[2] and tonumber(lowest[2]) or clock) - 1, id)
    end
  else
    redis.call('ZADD', queue .. ':ready', 'NX', math.max(tonumber(h[4] or '0'), clock), id)
  end
  if redis.call('EXISTS', prefix .. 'queue:' .. h[1] .. ':paused') == 0 then wake(queue) end
end

local function not_ready(id)
  local key = batch_key(id)
  local h = redis.call('HMGET', key, 'queue', 'environment')
  if not h[1] then return end
  local ready = queue_key(h[1], h[2]) .. ':ready'
  local tag = redis.call('ZSCORE', ready, id)
  if tag then
    redis.call('ZREM', ready, id)
    redis.call('HSET', key, 'tag', tag)
  end
end

-- Corrects what a batch was charged, in microseconds of work.
local function charge(id, microseconds)
  local key = batch_key(id)
  local h = redis.call('HMGET', key, 'queue', 'environment', 'weight')
  local ready = queue_key(h[1], h[2]) .. ':ready'
  local seconds = microseconds / 1000000 / tonumber(h[3] or '1')
  if redis.call('ZSCORE', ready, id) then
    redis.call('ZINCRBY', ready, seconds, id)
  else
    redis.call('HINCRBYFLOAT', key, 'tag', string.format('%.6f', seconds))
  end
end

local batch_parts = { '', ':calls', ':calls:bulk', ':queued', ':canceled', ':cancels', ':outcomes', ':outcomes:bulk',
  ':ended', ':failed', ':errors', ':attempts', ':deaths', ':output', ':shown' }

-- The keys of a batch in which all went well.
local plain_parts = { '', ':calls', ':outcomes', ':ended' }

local function parts_at_end(key)
  local h = redis.call('HMGET', key, 'failed', 'canceled', 'is_retried', 'has_attempts', 'has_bulk',
    'has_bulk_outcomes', 'has_output')
  if h[1] == '0' and h[2] == '0' and not (h[3] or h[4] or h[5] or h[6] or h[7]) then return plain_parts end
  return batch_parts
end

local function link_code(id, functions)
  for digest in string.gmatch(functions, '%x+') do
    local code = prefix .. 'code:' .. digest
    redis.call('SADD', code .. ':batches', id)
    local left = redis.call('TTL', code)
    if left > 0 then
      -- Batches that have ended may be run again until then.
      if left > redis.call('TTL', code .. ':ended') then redis.call('SET', code .. ':ended', '1', 'EX', left) end
      redis.call('PERSIST', code)
    end
  end
end

-- What nobody needs any more stays as long as the results of the last one that did: it may be run again.
local function unlink_code(id, functions, ttl)
  for digest in string.gmatch(functions, '%x+') do
    local code = prefix .. 'code:' .. digest
    redis.call('SREM', code .. ':batches', id)
    if redis.call('EXISTS', code .. ':batches') == 0 then
      local keep = math.max(ttl, redis.call('TTL', code), redis.call('TTL', code .. ':ended'))
      if keep > 0 then redis.call('EXPIRE', code, keep) else redis.call('UNLINK', code) end
    elseif ttl > math.max(0, redis.call('TTL', code .. ':ended')) then
      redis.call('SET', code .. ':ended', '1', 'EX', ttl)
    end
  end
end

-- Ends a batch whose jobs have all ended: it expires, and large calls that cannot run again are freed.
local function check_end(id)
  local key = batch_key(id)
  local h = redis.call('HMGET', key, 'total', 'finished', 'failed', 'canceled', 'is_submitting', 'result_ttl',
    'functions', 'ended_at')
  if not h[1] or h[5] or h[8] then return end
  local finished, failed, canceled = tonumber(h[2]), tonumber(h[3]), tonumber(h[4])
  if finished + failed + canceled < tonumber(h[1]) then return end
  redis.call('HSET', key, 'ended_at', string.format('%.6f', now()))
  redis.call('DEL', key .. ':cancels', key .. ':deaths')
  if failed + canceled == 0 and finished > 1000 then redis.call('UNLINK', key .. ':calls', key .. ':calls:bulk') end
  local ttl = tonumber(h[6])
  for _, part in ipairs(parts_at_end(key)) do redis.call('EXPIRE', key .. part, ttl) end
  unlink_code(id, h[7] or '', ttl)
  tell(id, 'ended')
end

-- A batch that had ended has jobs to do again.
local function revive(id)
  local key = batch_key(id)
  if redis.call('HDEL', key, 'ended_at') == 1 then
    for _, part in ipairs(parts_at_end(key)) do redis.call('PERSIST', key .. part) end
    link_code(id, redis.call('HGET', key, 'functions') or '')
  end
end

local function add_canceled(id, start, stop)
  local key = batch_key(id)
  redis.call('RPUSH', key .. ':canceled', write_run(start, stop))
  redis.call('RPUSH', key .. ':ended', 'c' .. write_run(start, stop))
  redis.call('HINCRBY', key, 'canceled', stop - start)
end

local function push_front(id, start, stop, suspect)
  local queued = batch_key(id) .. ':queued'
  local head = redis.call('LINDEX', queued, 0)
  if head then
    local head_start, head_stop, head_suspect = read_run(head)
    if head_start == stop and head_suspect == suspect then
      redis.call('LSET', queued, 0, write_run(start, head_stop, suspect))
      return
    end
  end
  redis.call('LPUSH', queued, write_run(start, stop, suspect))
end

-- 'x' goes to the suspects that run alone on a worker.
local function put_back(id, start, stop, kind)
  if kind ~= 'x' then return push_front(id, start, stop, kind) end
  local h = redis.call('HMGET', batch_key(id), 'queue', 'environment')
  local queue = queue_key(h[1], h[2])
  redis.call('RPUSH', queue .. ':suspects', id .. ' ' .. start)
  wake(queue)
end

-- Takes jobs back from a lease: to the front of the queue, or to the canceled ones where that was asked for.
-- `kind` as in a lease.
local function give_back(id, start, stop, kind)
  local key = batch_key(id)
  if start >= stop or redis.call('EXISTS', key) == 0 then return end
  redis.call('HINCRBY', key, 'started', start - stop)
  if redis.call('HEXISTS', key, 'is_canceled') == 1 then
    add_canceled(id, start, stop)
    tell(id, 'changed')
  elseif redis.call('EXISTS', key .. ':cancels') == 1 then
    local last = stop
    for i = stop - 1, start, -1 do
      if redis.call('SREM', key .. ':cancels', i) == 1 then
        if i + 1 < last then put_back(id, i + 1, last, kind) end
        add_canceled(id, i, i + 1)
        last = i
      end
    end
    if start < last then put_back(id, start, last, kind) end
    tell(id, 'changed')
  else
    put_back(id, start, stop, kind)
  end
  make_ready(id)
  check_end(id)
end

-- A job that cannot be run any more fails with a reason in plain text, which nobody unpickles.
local function fail_in_words(id, index, kind, reason)
  local key = batch_key(id)
  if redis.call('EXISTS', key) == 0 then return end
  local summary = cjson.encode({ type = kind, message = reason, example = index, traceback = reason })
  local digest = string.sub(redis.sha1hex(kind .. reason), 1, 12)
  redis.call('HSET', key .. ':outcomes', index, '!' .. cjson.encode({ type = kind, message = reason, at = now() }))
  redis.call('HSET', key .. ':failed', index, digest)
  redis.call('HSETNX', key .. ':errors', digest, summary)
  redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, 1)
  redis.call('HINCRBY', key, 'started', -1)
  redis.call('HINCRBY', key, 'failed', 1)
  redis.call('RPUSH', key .. ':ended', tostring(index))
  tell(id, 'changed')
  check_end(id)
end

-- A job during which a process died: it runs again, alone on a worker after the second time, and fails after the third.
local function after_death(id, index, reason)
  local key = batch_key(id)
  if redis.call('EXISTS', key) == 0 then return end
  local deaths = redis.call('HINCRBY', key .. ':deaths', index, 1)
  redis.call('HINCRBY', key .. ':attempts', index, 1)
  redis.call('HSET', key, 'has_attempts', 1)
  if deaths >= 3 then
    redis.call('HDEL', key .. ':deaths', index)
    fail_in_words(id, index, 'JobKilled', reason .. '; so it was the ' .. deaths .. ' times that it was started')
  else
    give_back(id, index, index + 1, deaths == 2 and 'x' or 's')
  end
end

-- Orders those that run jobs of a batch to cancel them.
local function cancel_running(id)
  local ordered = {}
  for _, lease in ipairs(leases_of(id)) do
    if not ordered[lease.worker] then order_cancel(lease.worker, 'cancel ' .. id) end
    ordered[lease.worker] = true
  end
end

-- Cancels what waits of a batch; returns how many jobs.
local function cancel_waiting(id)
  local key = batch_key(id)
  local h = redis.call('HMGET', key, 'queue', 'environment')
  local n = 0
  for _, run in ipairs(redis.call('LRANGE', key .. ':queued', 0, -1)) do
    local start, stop = read_run(run)
    add_canceled(id, start, stop)
    n = n + stop - start
  end
  redis.call('DEL', key .. ':queued')
  local suspects = queue_key(h[1], h[2]) .. ':suspects'
  for _, entry in ipairs(redis.call('LRANGE', suspects, 0, -1)) do
    local batch, index = string.match(entry, '^(%S+) (%d+)$')
    if batch == id then
      redis.call('LREM', suspects, 1, entry)
      add_canceled(id, tonumber(index), tonumber(index) + 1)
      n = n + 1
    end
  end
  not_ready(id)
  return n
end
