-- Leases a run to a worker: of the batch with the smallest tag in the first of its queues that has jobs.
-- Sent twice it acts once: it carries a number, and a number that has a lease gets that lease again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease, greater than all before
-- ARGV[3]  environment
-- ARGV[4]  children of the worker, among whom the end of a batch is shared out
-- ARGV[5]  microseconds of work that are wanted
-- ARGV[6]  jobs at most
-- ARGV[7]  bytes of calls at most (one job may be larger)
-- ARGV[8...] queues
-- Returns  {'gone'} if the worker is not registered; {} if there is nothing to do; or
--          {'run', batch, start, stop, kind, per_block, description, has_attempts, {index, attempts, ...},
--          {field, record, ...}, {field, name in calls:bulk, ...}, 1 if more of the batch waits}
local worker, number, environment = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local children, target = tonumber(ARGV[4]), tonumber(ARGV[5])
local most_jobs, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local leases = worker_key(worker) .. ':leases'

local function answer(lease)
  local key = batch_key(lease.batch)
  local h = redis.call('HMGET', key, 'per_block', 'description', 'has_large', 'has_attempts', 'has_bulk', 'token')
  local per_block = tonumber(h[1])
  local fields = {}
  for block = math.floor(lease.start / per_block), math.floor((lease.stop - 1) / per_block) do
    fields[#fields + 1] = 'b' .. block
  end
  if h[3] then
    for i = lease.start, lease.stop - 1 do fields[#fields + 1] = i end
  end
  local calls, bulk = {}, {}
  for i, record in ipairs(redis.call('HMGET', key .. ':calls', unpack(fields))) do
    if record then
      calls[#calls + 1] = tostring(fields[i])
      calls[#calls + 1] = record
    elseif h[5] then
      local name = h[6] .. ':' .. fields[i]
      if redis.call('HEXISTS', key .. ':calls:bulk', name) == 1 then
        bulk[#bulk + 1] = tostring(fields[i])
        bulk[#bulk + 1] = name
      end
    end
  end
  local attempts = {}
  if h[4] then
    local indices = {}
    for i = lease.start, lease.stop - 1 do indices[#indices + 1] = i end
    for i, count in ipairs(redis.call('HMGET', key .. ':attempts', unpack(indices))) do
      if count then
        attempts[#attempts + 1] = indices[i]
        attempts[#attempts + 1] = tonumber(count)
      end
    end
  end
  return { 'run', lease.batch, lease.start, lease.stop, lease.kind, per_block, h[2], h[4] and 1 or 0, attempts, calls,
    bulk, redis.call('EXISTS', key .. ':queued') }
end

local function keep(lease)
  redis.call('HSET', leases, number, write_lease(lease))
  redis.call('HINCRBY', batch_key(lease.batch), 'started', lease.stop - lease.start)
  redis.call('HSET', worker_key(worker), 'claimed', number)
  return answer(lease)
end

-- How many jobs of a run that begins at `start`: by time, by this worker's share of what is left, by size.
local function stop_of(key, start, stop, h)
  local cost = tonumber(h[2])
  local n = 1
  if cost then
    cost = math.max(cost, 0.01)
    local waiting = tonumber(h[3]) - tonumber(h[4]) - tonumber(h[5]) - tonumber(h[6]) - tonumber(h[7])
    local share = math.max(math.ceil(waiting / (2 * children)), math.ceil(2000 / cost))
    n = math.max(1, math.min(math.floor(target / cost), share, most_jobs))
  end
  n = math.min(n, stop - start)
  local per_block = tonumber(h[1])
  local last = start + n
  if last < stop then
    -- Whole blocks where it is many: a part of a block is stored job by job.
    local aligned = math.floor(last / per_block) * per_block
    if aligned > start then last = aligned end
  end
  if h[8] then last = math.min(last, start + 256) end
  if h[9] then last = math.min(last, start + 1000) end
  local bytes = 0
  local function size_of(field)
    local size = redis.call('HSTRLEN', key .. ':calls', field)
    if size == 0 and h[11] then size = redis.call('HSTRLEN', key .. ':calls:bulk', h[12] .. ':' .. field) end
    return size
  end
  for block = math.floor(start / per_block), math.floor((last - 1) / per_block) do
    bytes = bytes + size_of('b' .. block)
    if bytes > most_bytes and block * per_block > start then return block * per_block end
  end
  if h[8] then
    for i = start, last - 1 do
      bytes = bytes + size_of(i)
      if bytes > most_bytes and i > start then return i end
    end
  end
  return last
end

local function take(queue, id, tag)
  local key = batch_key(id)
  local run = redis.call('LPOP', key .. ':queued')
  if not run then
    not_ready(id)
    return nil
  end
  local h = redis.call('HMGET', key, 'per_block', 'cost', 'total', 'started', 'finished', 'failed', 'canceled',
    'has_large', 'has_attempts', 'weight', 'has_bulk', 'token')
  if not h[1] then
    redis.call('ZREM', queue .. ':ready', id)
    redis.call('DEL', key .. ':queued')
    return nil
  end
  local start, stop, suspect = read_run(run)
  local last = suspect == 's' and start + 1 or stop_of(key, start, stop, h)
  if last < stop then redis.call('LPUSH', key .. ':queued', write_run(last, stop, suspect)) end
  local cost = math.floor(tonumber(h[2]) or 10000)
  local seconds = (last - start) * cost / 1000000 / tonumber(h[10])
  redis.call('SET', queue .. ':clock', tag, 'EX', 604800)
  redis.call('ZINCRBY', queue .. ':ready', string.format('%.6f', seconds), id)
  if last == stop and redis.call('EXISTS', key .. ':queued') == 0 then not_ready(id) end
  return keep({ batch = id, start = start, stop = last, cost = cost, kind = suspect })
end

-- The first suspect that may start. Those of a paused batch wait, and no worker empties itself for them.
local function next_suspect(queue)
  for _, entry in ipairs(redis.call('LRANGE', queue .. ':suspects', 0, -1)) do
    local id, index = string.match(entry, '^(%S+) (%d+)$')
    local h = redis.call('HMGET', batch_key(id), 'total', 'is_paused')
    if h[1] and not h[2] then return entry, id, tonumber(index) end
  end
end

local lease = redis.call('HGET', leases, number)
if lease then
  lease = read_lease(lease)
  if redis.call('EXISTS', batch_key(lease.batch)) == 1 then return answer(lease) end
  -- It was deleted before the worker heard of its lease: nobody else would give it back.
  redis.call('HDEL', leases, number)
  return {}
end
local w = redis.call('HMGET', worker_key(worker), 'beat', 'claimed', 'alone')
if not w[1] then return { 'gone' } end
if tonumber(w[2] or '0') >= number then return {} end
if w[3] then
  if redis.call('HEXISTS', leases, w[3]) == 1 then return {} end
  redis.call('HDEL', worker_key(worker), 'alone')
end

for i = 8, #ARGV do
  local queue = queue_key(ARGV[i], environment)
  if redis.call('EXISTS', prefix .. 'queue:' .. ARGV[i] .. ':paused') == 0 then
    local entry, id, index = next_suspect(queue)
    if entry then
      -- A job that may take a worker down goes to one that holds nothing; one at a time empties itself for it.
      local host = queue .. ':suspects:worker'
      if redis.call('EXISTS', leases) == 0 then
        redis.call('LREM', queue .. ':suspects', 1, entry)
        redis.call('DEL', host)
        redis.call('HSET', worker_key(worker), 'alone', number)
        return keep({ batch = id, start = index, stop = index + 1, cost = 0, kind = 'x' })
      end
      redis.call('SET', host, worker, 'NX', 'EX', 60)
      if redis.call('GET', host) == worker then
        redis.call('EXPIRE', host, 60)
        return {}
      end
    end
    for _ = 1, 100 do
      local first = redis.call('ZRANGE', queue .. ':ready', 0, 0, 'WITHSCORES')
      if not first[1] then break end
      local run = take(queue, first[1], first[2])
      if run then
        wake_if_any(queue)
        return run
      end
    end
  end
end
return {}
