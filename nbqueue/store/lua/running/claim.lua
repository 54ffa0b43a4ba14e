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
-- ARGV[8]  numbers of those of its leases whose job waits for other jobs, with a space before and behind each
-- ARGV[9]  batches that those wait for, separated by spaces: taken from first where that can be
-- ARGV[10] 1 if a child has nothing to do: where nothing is found, the worker is parked; `append` may hand it a job
-- ARGV[11...] queues; without one it only gets what it was handed, and is parked no more
-- Returns  {'gone'} if the worker is not registered; {'used'} if the number had a lease that is over; {} if there is
--          nothing to do, {'later', microseconds} if there will be then;
--          {'due', {field, value, ...}, last batch, jobs in it, 1 if it takes no more, 1 if some have not ended, when
--          it ended or '', when it was made, the time}: a schedule, to be fired; or
--          {'run', batch, start, stop, kind, per_block, description, has_attempts, {index, attempts, ...},
--          {field, record, ...}, {field, name in calls:bulk, ...}, 1 if more of the batch waits,
--          {index, what it has saved before, ...}, record of the function that they run with if it is not their
--          calls', else '', how the first one ends, where only its callback is to be called, else ''}
-- include: keys, runs, leases, waking, fair_share, counters, schedule, parking
-- on demand: resolve of resolving
-- on demand: read_schedule of firing
-- on demand: same_function_upto of mending
-- on demand: mended_record of mending
-- on demand: give_up_overdue of giving_up
local worker, number, environment = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local children, target = tonumber(ARGV[4]), tonumber(ARGV[5])
local most_jobs, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local waiting, awaited, parks = ARGV[8], ARGV[9], ARGV[10] == '1'
local leases = worker_key(worker) .. ':leases'

local function read_batch(id)
  local key = batch_key(id)
  local per_block, description, queued, cost, weight, has_large, has_attempts, has_bulk, token, has_meta,
    mended, has_decided = unpack(redis.call('HMGET', key, 'per_block', 'description', 'queued', 'cost_ns', 'weight',
      'has_large', 'has_attempts', 'has_bulk', 'token', 'has_meta', 'mended', 'has_decided'))
  if not per_block then return nil end
  return { key = key, per_block = tonumber(per_block), description = description, queued = tonumber(queued),
    cost = cost and tonumber(cost) / 1000, weight = tonumber(weight), has_large = has_large,
    has_attempts = has_attempts, has_bulk = has_bulk, token = token, has_meta = has_meta, mended = mended,
    has_decided = has_decided }
end

local function answer(lease, batch)
  local fields = {}
  for block = math.floor(lease.start / batch.per_block), math.floor((lease.stop - 1) / batch.per_block) do
    fields[#fields + 1] = 'b' .. block
  end
  if batch.has_large then
    for i = lease.start, lease.stop - 1 do fields[#fields + 1] = i end
  end
  local calls, bulk = {}, {}
  for i, record in ipairs(redis.call('HMGET', batch.key .. ':calls', unpack(fields))) do
    if record then
      calls[#calls + 1] = tostring(fields[i])
      calls[#calls + 1] = record
    elseif batch.has_bulk then
      local name = batch.token .. ':' .. fields[i]
      if redis.call('HEXISTS', batch.key .. ':calls:bulk', name) == 1 then
        bulk[#bulk + 1] = tostring(fields[i])
        bulk[#bulk + 1] = name
      end
    end
  end
  local attempts = {}
  if batch.has_attempts then
    local indices = {}
    for i = lease.start, lease.stop - 1 do indices[#indices + 1] = i end
    for i, count in ipairs(redis.call('HMGET', batch.key .. ':attempts', unpack(indices))) do
      if count then
        attempts[#attempts + 1] = indices[i]
        attempts[#attempts + 1] = tonumber(count)
      end
    end
  end
  local metas = {}
  if batch.has_meta == 'given' then -- also to jobs that have not started yet
    for i = lease.start, lease.stop - 1 do
      local saved = redis.call('HGET', batch.key .. ':meta', i)
      if saved then
        metas[#metas + 1] = i
        metas[#metas + 1] = saved
      end
    end
  elseif batch.has_attempts and batch.has_meta then
    for i = 1, #attempts, 2 do
      local saved = redis.call('HGET', batch.key .. ':meta', attempts[i])
      if saved then
        metas[#metas + 1] = attempts[i]
        metas[#metas + 1] = saved
      end
    end
  end
  return { 'run', lease.batch, lease.start, lease.stop, lease.kind, batch.per_block, batch.description,
    batch.has_attempts and 1 or 0, attempts, calls, bulk, redis.call('EXISTS', batch.key .. ':queued'), metas,
    batch.mended and mended_record(batch.key, lease.start) or '',
    batch.has_decided and redis.call('HGET', batch.key .. ':decided', lease.start) or '' }
end

local function keep(queue, lease, batch)
  redis.call('HSET', leases, number, write_lease(lease))
  count(batch.key, queue, 'queued', lease.start - lease.stop)
  count(batch.key, queue, 'started', lease.stop - lease.start)
  redis.call('HSET', worker_key(worker), 'claimed', number)
  return answer(lease, batch)
end

-- How many jobs of a run that begins at `start`: by time, by this worker's share of what is left, by size.
local function stop_of(start, stop, batch)
  local n = 1
  if batch.cost then
    local cost = math.max(batch.cost, 0.01)
    local share = math.max(math.ceil(batch.queued / (2 * children)), math.ceil(2000 / cost))
    n = math.max(1, math.min(math.floor(target / cost), share, most_jobs))
  end
  n = math.min(n, stop - start)
  local per_block = batch.per_block
  local last = start + n
  if last < stop then
    -- Whole blocks where it is many: a part of a block is stored job by job.
    local aligned = math.floor(last / per_block) * per_block
    if aligned > start then last = aligned end
  end
  if batch.has_large then last = math.min(last, start + 256) end
  if batch.has_attempts then last = math.min(last, start + 1000) end
  local bytes = 0
  local function size_of(field)
    local size = redis.call('HSTRLEN', batch.key .. ':calls', field)
    if size == 0 and batch.has_bulk then
      size = redis.call('HSTRLEN', batch.key .. ':calls:bulk', batch.token .. ':' .. field)
    end
    return size
  end
  for block = math.floor(start / per_block), math.floor((last - 1) / per_block) do
    bytes = bytes + size_of('b' .. block)
    if bytes > most_bytes and block * per_block > start then return block * per_block end
  end
  if batch.has_large then
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
  local batch = read_batch(id)
  if not batch then
    redis.call('ZREM', queue .. ':ready', id)
    redis.call('DEL', key .. ':queued')
    return nil
  end
  local start, stop, suspect = read_run(run)
  local last = suspect == 's' and start + 1 or stop_of(start, stop, batch)
  if batch.mended then last = same_function_upto(key, start, last) end
  if last < stop then redis.call('LPUSH', key .. ':queued', write_run(last, stop, suspect)) end
  local cost = math.floor(batch.cost or 10000)
  redis.call('SET', queue .. ':clock', tag, 'EX', 604800)
  redis.call('ZINCRBY', queue .. ':ready', math.floor((last - start) * cost / batch.weight), id)
  if last == stop and redis.call('EXISTS', key .. ':queued') == 0 then not_ready(id) end
  return keep(queue, { batch = id, start = start, stop = last, cost = cost, kind = suspect }, batch)
end

-- The first suspect that may start. Those of a paused batch wait, and no worker empties itself for them.
local function next_suspect(queue)
  for _, entry in ipairs(redis.call('LRANGE', queue .. ':suspects', 0, -1)) do
    local id, index = string.match(entry, '^(%S+) (%d+)$')
    local total, is_paused = unpack(redis.call('HMGET', batch_key(id), 'total', 'is_paused'))
    if total and not is_paused then return entry, id, tonumber(index) end
  end
end

local function is_waiting(held)
  return string.find(waiting, ' ' .. held .. ' ', 1, true) ~= nil
end

-- Whether all that it holds are jobs that wait for others, which may be for the one that shall run alone.
local function runs_nothing()
  if waiting == '' then return redis.call('EXISTS', leases) == 0 end
  for _, held in ipairs(redis.call('HKEYS', leases)) do
    if not is_waiting(held) then return false end
  end
  return true
end

local function take_awaited()
  for id in string.gmatch(awaited, '%S+') do
    local name = redis.call('HGET', batch_key(id), 'queue')
    for i = 11, #ARGV do
      local queue = queue_key(ARGV[i], environment)
      if name == ARGV[i] and redis.call('EXISTS', prefix .. 'queue:' .. name .. ':paused') == 0
        and redis.call('ZSCORE', queue .. ':ready', id) then
        local run = take(queue, id, redis.call('ZRANGE', queue .. ':ready', 0, 0, 'WITHSCORES')[2])
        if run then
          wake_if_any(queue)
          return run
        end
      end
    end
  end
end

local lease = redis.call('HGET', leases, number)
if lease then
  lease = read_lease(lease)
  redis.call('DEL', worker_key(worker) .. ':handed')
  local batch = read_batch(lease.batch)
  if batch then return answer(lease, batch) end
  -- It was deleted before the worker heard of its lease: nobody else would give it back.
  redis.call('HDEL', leases, number)
  return { 'used' }
end
local beat, claimed, alone, parked = unpack(redis.call('HMGET', worker_key(worker),
  'beat', 'claimed', 'alone', 'parked'))
if not beat then return { 'gone' } end
if tonumber(claimed or '0') >= number then
  redis.call('DEL', worker_key(worker) .. ':handed')
  return { 'used' }
end
if parked then redis.call('HDEL', worker_key(worker), 'parked') end
local is_behind = false
if redis.call('EXISTS', prefix .. 'suspended', prefix .. 'settled') > 0 then
  if redis.call('EXISTS', prefix .. 'suspended') == 1 then return {} end
  is_behind = resolve() > 0
end
if alone and not is_waiting(alone) then
  if redis.call('HEXISTS', leases, alone) == 1 then return {} end
  redis.call('HDEL', worker_key(worker), 'alone')
end
local run = take_awaited()
if run then return run end

local later
for i = 11, #ARGV do
  local queue = queue_key(ARGV[i], environment)
  local paused = prefix .. 'queue:' .. ARGV[i] .. ':paused'
  local is_open = redis.call('EXISTS', paused, queue .. ':ttl') == 0
  if not is_open then
    is_open = redis.call('EXISTS', paused) == 0
    if redis.call('EXISTS', queue .. ':ttl') == 1 and give_up_overdue(queue) then
      later, is_open = 0, false  -- nothing starts whose time is up
    end
  end
  if is_open then
    local seconds, due = queue_due(queue)
    if due then
      local read = read_schedule(ARGV[i], due)
      if read then return { 'due', unpack(read) } end
      redis.call('ZREM', queue .. ':scheduled', '*' .. due)
    end
    if seconds then later = math.min(later or seconds, seconds) end
    local entry, id, index = next_suspect(queue)
    if entry then
      -- A job that may take a worker down goes to one that holds nothing; one at a time empties itself for it.
      local host = queue .. ':suspects:worker'
      if runs_nothing() then
        redis.call('LREM', queue .. ':suspects', 1, entry)
        redis.call('DEL', host)
        redis.call('HSET', worker_key(worker), 'alone', number)
        return keep(queue, { batch = id, start = index, stop = index + 1, cost = 0, kind = 'x' }, read_batch(id))
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
        if is_behind then wake(queue) end
        return run
      end
    end
  end
end
if is_behind then return { 'later', 0 } end
if parks then park(worker, number, environment, 11) end
return later and { 'later', math.ceil(later * 1000000) } or {}
