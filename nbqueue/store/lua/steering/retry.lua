-- Queues again what failed or was canceled, at most 1,000 failed jobs a call; what finished never runs again. What was
-- asked of a job before, and how often its process died, does not count for it any more.
-- Sent twice it acts once: it carries a token.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  token of this call
-- ARGV[3]  an index, or '' for all
-- ARGV[4]  number of the function that they run with from now on, see `mend`; '' for that which they had
-- Returns  {number of jobs queued again, 1 if there are more}, or {-1, 0} if there is no such batch
-- include: keys, runs, holders, counters, fair_share, reviving, hints, tries, mending, failed
local id, token, index, mended = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local key = batch_key(id)
local total, last, retried = unpack(redis.call('HMGET', key, 'total', 'retry', 'retried'))
if not total then return { -1, 0 } end
local most_canceled = mended == '' and math.huge or 1000

local function is_more()
  if index then return 0 end
  if mended ~= '' and redis.call('EXISTS', key .. ':canceled') == 1 then return 1 end
  return redis.call('EXISTS', key .. ':failed')
end

if last == token then return { tonumber(retried), is_more() } end

local cancels, deaths = redis.call('SMEMBERS', key .. ':cancels'), redis.call('HKEYS', key .. ':deaths')

local function queue_again(start, stop, state)
  for _, job in ipairs(cancels) do
    -- It ended all the same; that it was to be canceled then does not hold for its next attempt.
    if start <= tonumber(job) and tonumber(job) < stop then redis.call('SREM', key .. ':cancels', job) end
  end
  for _, job in ipairs(deaths) do
    if start <= tonumber(job) and tonumber(job) < stop then redis.call('HDEL', key .. ':deaths', job) end
  end
  mend(key, start, stop, mended)
  redis.call('RPUSH', key .. ':queued', write_run(start, stop))
  redis.call('RPUSH', key .. ':ended', 'r' .. write_run(start, stop))
  move(id, state, 'queued', stop - start)
end

local n = 0
local canceled = redis.call('LRANGE', key .. ':canceled', 0, -1)
if not index then
  redis.call('DEL', key .. ':canceled')
  for _, run in ipairs(canceled) do
    local start, stop = read_run(run)
    local last = math.min(stop, start + most_canceled - n)
    if start < last then
      queue_again(start, last, 'canceled')
      n = n + last - start
    end
    if last < stop then redis.call('RPUSH', key .. ':canceled', write_run(last, stop)) end
  end
else
  for _, run in ipairs(canceled) do
    local start, stop = read_run(run)
    if start <= index and index < stop then
      redis.call('LREM', key .. ':canceled', 1, run)
      if start < index then redis.call('RPUSH', key .. ':canceled', write_run(start, index)) end
      if index + 1 < stop then redis.call('RPUSH', key .. ':canceled', write_run(index + 1, stop)) end
      queue_again(index, index + 1, 'canceled')
      n = n + 1
      break
    end
  end
end

local failed = {}
if index then
  local digest = redis.call('HGET', key .. ':failed', index)
  if digest then failed = { tostring(index), digest } end
else
  failed = some_failed(key)
end
local indices = {}
for i = 1, math.min(#failed, 2000), 2 do
  local job, digest = failed[i], failed[i + 1]
  indices[#indices + 1] = tonumber(job)
  local attempt = tonumber(redis.call('HGET', key .. ':attempts', job) or '0') + 1
  keep_try(key, job, attempt, redis.call('HGET', key .. ':outcomes', job) or '')
  redis.call('HDEL', key .. ':failed', job)
  redis.call('HDEL', key .. ':outcomes', job)
  if redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, -1) <= 0 then
    redis.call('HDEL', key .. ':errors', digest, 'n:' .. digest)
  end
end
table.sort(indices)
local start, stop
for _, i in ipairs(indices) do
  if stop == i then
    stop = i + 1
  else
    if start then queue_again(start, stop, 'failed') end
    start, stop = i, i + 1
  end
end
if start then queue_again(start, stop, 'failed') end
if #indices > 0 then redis.call('HSET', key, 'has_attempts', 1) end
n = n + #indices
redis.call('HSET', key, 'retry', token, 'retried', n)
if n > 0 then
  if index and redis.call('HEXISTS', key, 'is_canceled') == 1 then
    -- The others that still run are to be canceled as before.
    for _, lease in ipairs(leases_of(id)) do
      for i = lease.start, lease.stop - 1 do redis.call('SADD', key .. ':cancels', i) end
    end
  end
  redis.call('HDEL', key, 'is_canceled', 'reason')
  redis.call('HSET', key, 'is_retried', 1)
  revive(id)
  make_ready(id)
  tell(id, 'changed')
end
return { n, is_more() }
