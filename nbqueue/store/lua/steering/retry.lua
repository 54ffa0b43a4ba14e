-- Queues again what failed or was canceled, at most 1,000 failed jobs a call; what finished never runs again. What was
-- asked of a job before, and how often its process died, does not count for it any more. What failed because of
-- another job comes back with that one.
-- Sent twice it acts once: it carries a token.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  token of this call
-- ARGV[3]  an index, or '' for all
-- ARGV[4]  number of the function that they run with from now on, see `mend`; '' for that which they had
-- Returns  {number of jobs queued again, 1 if there are more, number of those that failed because of others}, or
--          {-1, 0, 0} if there is no such batch
-- include: keys, runs, holders, counters, fair_share, reviving, hints, tries, settled, deferred, following, job_places,
--          mending, failed, resolving
local id, token, index, mended = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local key = batch_key(id)
local total, last, retried, follows = unpack(redis.call('HMGET', key, 'total', 'retry', 'retried', 'follows'))
if not total then return { -1, 0, 0 } end

local function broken()
  return index and redis.call('HEXISTS', key .. ':broken', index) or redis.call('HLEN', key .. ':broken')
end

if last == token then return { tonumber(retried), redis.call('HEXISTS', key, 'retry_has_more'), broken() } end
-- Those who wait for its jobs learn how these ended before they run again.
if resolve() > 0 then return { 0, 1, 0 } end

local cancels, deaths = redis.call('SMEMBERS', key .. ':cancels'), redis.call('HKEYS', key .. ':deaths')

local function queue_again(start, stop, state)
  for _, job in ipairs(cancels) do
    -- It ended all the same; that it was to be canceled then does not hold for its next attempt.
    if start <= tonumber(job) and tonumber(job) < stop then
      redis.call('SREM', key .. ':cancels', job)
      redis.call('SREM', key .. ':passes', job)
    end
  end
  for _, job in ipairs(deaths) do
    if start <= tonumber(job) and tonumber(job) < stop then redis.call('HDEL', key .. ':deaths', job) end
  end
  mend(key, start, stop, mended)
  redis.call('RPUSH', key .. ':queued', write_run(start, stop))
  redis.call('RPUSH', key .. ':ended', 'r' .. write_run(start, stop))
  move(id, state, 'queued', stop - start)
  note_settled(id, start, stop, 'again')
end

local function defer_again(start, stop, state)
  mend(key, start, stop, mended)
  defer(key, start, stop)
  redis.call('RPUSH', key .. ':ended', 'r' .. write_run(start, stop))
  move(id, state, 'deferred', stop - start)
  note_settled(id, start, stop, 'again')
end

-- What was canceled is queued again, or waits again for the others that it waited for, of which so many groups are
-- looked at; returns how many jobs, and where the rest begins.
local function undo_cancel(start, stop, most)
  local last = mended == '' and stop or math.min(stop, start + most)
  if follows then
    defer_again(start, last, 'canceled')
    catch_up(id, follows, start, last)
    return last - start, last
  end
  if redis.call('EXISTS', key .. ':unmet') == 0 then
    if start < last then queue_again(start, last, 'canceled') end
    return last - start, last
  end
  local done, position = 0, start
  while position < stop and most > 0 do
    local group = group_of(key, position)
    last = group and math.min(stop, group.stop, mended == '' and stop or position + most) or position + 1
    if not group then
      queue_again(position, last, 'canceled')
    elseif group.failed == 0 then
      defer_again(position, last, 'canceled')
    else
      redis.call('RPUSH', key .. ':canceled', write_run(position, last))
      done = done - (last - position)
    end
    done, most = done + last - position, most - (mended == '' and 1 or last - position)
    position = last
  end
  return done, position
end

local function drop_error(job, digest)
  redis.call('HDEL', key .. ':outcomes', job)
  if redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, -1) <= 0 then
    redis.call('HDEL', key .. ':errors', digest, 'n:' .. digest)
  end
end

-- Of a job that failed because of another one: 'failed' if that is gone, so that it is run again as others, 'deferred'
-- if it waits for nothing any more that has failed, else nil.
local function becomes(job)
  local is_read, outcome = pcall(cjson.decode, string.sub(redis.call('HGET', key .. ':outcomes', job) or '', 2))
  if not is_read or redis.call('EXISTS', batch_key(outcome.because)) == 0 then return 'failed' end
  if follows then
    local upstream = batch_key(follows)
    local is_bad = redis.call('HEXISTS', upstream .. ':failed', job) == 1 or
      redis.call('HEXISTS', upstream .. ':broken', job) == 1 or is_within(upstream .. ':canceled', tonumber(job))
    return not is_bad and 'deferred' or nil
  end
  local group = group_of(key, tonumber(job))
  return not group and 'failed' or group.failed == 0 and 'deferred' or nil
end

-- Some of the jobs that failed because of others, of which nothing keeps them any more; returns how many wait again.
local function free_broken(found)
  local n = 0
  for i = 1, #found, 2 do
    local job, digest = found[i], found[i + 1]
    local state = becomes(job)
    if state then redis.call('HDEL', key .. ':broken', job) end
    if state == 'failed' then
      redis.call('HSET', key .. ':failed', job, digest)
    elseif state then
      drop_error(job, digest)
      defer_again(tonumber(job), job + 1, 'failed')
      if follows then catch_up(id, follows, tonumber(job), job + 1) end
      n = n + 1
    end
  end
  return n
end

local n, more = 0, 0
local canceled = redis.call('LRANGE', key .. ':canceled', 0, -1)
if not index then
  redis.call('DEL', key .. ':canceled')
  for _, run in ipairs(canceled) do
    local start, stop = read_run(run)
    local done, position = undo_cancel(start, stop, math.max(0, 1000 - n))
    if position < stop then
      redis.call('RPUSH', key .. ':canceled', write_run(position, stop))
      more = 1
    end
    n = n + done
  end
else
  for _, run in ipairs(canceled) do
    local start, stop = read_run(run)
    if start <= index and index < stop then
      redis.call('LREM', key .. ':canceled', 1, run)
      if start < index then redis.call('RPUSH', key .. ':canceled', write_run(start, index)) end
      if index + 1 < stop then redis.call('RPUSH', key .. ':canceled', write_run(index + 1, stop)) end
      n = n + undo_cancel(index, index + 1, 1)
      break
    end
  end
end

if index then
  local digest = redis.call('HGET', key .. ':broken', index)
  if digest then n = n + free_broken({ ARGV[3], digest }) end
elseif redis.call('EXISTS', key .. ':broken') == 1 then
  n = n + free_broken(redis.call('HRANDFIELD', key .. ':broken', 1000, 'WITHVALUES'))
  if n > 0 then more = redis.call('EXISTS', key .. ':broken') end
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
  drop_error(job, digest)
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
if not index then more = math.max(more, redis.call('EXISTS', key .. ':failed')) end
redis.call('HSET', key, 'retry', token, 'retried', n)
if more == 1 then redis.call('HSET', key, 'retry_has_more', 1) else redis.call('HDEL', key, 'retry_has_more') end
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
  note_settled(id, -1, 0, 'again')
  resolve()
  tell(id, 'changed')
end
return { n, more, broken() }
