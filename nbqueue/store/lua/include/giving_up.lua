-- Jobs that are given up if they wait for too long: the runs of a batch by when that is, in `batch:<id>:ttl`, and the
-- batches of a queue by their next ones.
-- include: keys, clock, runs, counters, fair_share, ending, hints, settled

local function note_next_deadline(key, id, queue)
  local first = redis.call('ZRANGE', key .. ':ttl', 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', queue .. ':ttl', first[2], id) else redis.call('ZREM', queue .. ':ttl', id) end
end

-- Has jobs given up that still wait in the queue then, and have never started.
local function give_up_at(key, id, queue, start, stop, at)
  redis.call('ZADD', key .. ':ttl', string.format('%.3f', at), write_run(start, stop))
  note_next_deadline(key, id, queue)
end

-- Those that are due, of at most 100 entries, neighbours as one: {start, stop, entries}.
local function overdue_runs(key, at)
  local runs, found = {}, {}
  local due = redis.call('ZRANGEBYSCORE', key .. ':ttl', '-inf', string.format('%.3f', at), 'LIMIT', 0, 100)
  for _, entry in ipairs(due) do
    local start, stop = read_run(entry)
    found[#found + 1] = { start, stop, { entry } }
  end
  table.sort(found, function(one, other) return one[1] < other[1] end)
  for _, run in ipairs(found) do
    local last = runs[#runs]
    if last and last[2] == run[1] then
      last[2] = run[2]
      last[3][#last[3] + 1] = run[3][1]
    else
      runs[#runs + 1] = run
    end
  end
  return runs
end

-- Of a run that waits, the parts that have never started: {{start, stop}, ...}; and those that have.
local function never_started(key, start, stop)
  if redis.call('HEXISTS', key, 'has_attempts') == 0 then return { { start, stop } }, {} end
  local indices, parts = {}, { [true] = {}, [false] = {} }
  for index = start, stop - 1 do indices[#indices + 1] = index end
  for i, attempts in ipairs(redis.call('HMGET', key .. ':attempts', unpack(indices))) do
    local list = parts[not attempts]
    local last = list[#list]
    if last and last[2] == indices[i] then
      last[2] = last[2] + 1
    else
      list[#list + 1] = { indices[i], indices[i] + 1 }
    end
  end
  return parts[true], parts[false]
end

local function fail_for_waiting(id, key, parts, record, digest)
  local n = 0
  for _, part in ipairs(parts) do
    local records, digests = {}, {}
    for index = part[1], part[2] - 1 do
      records[#records + 1], digests[#digests + 1] = index, index
      records[#records + 1], digests[#digests + 1] = record, digest
    end
    redis.call('HSET', key .. ':outcomes', unpack(records))
    redis.call('HSET', key .. ':failed', unpack(digests))
    redis.call('RPUSH', key .. ':ended', write_run(part[1], part[2]))
    note_settled(id, part[1], part[2], 'ended')
    n = n + part[2] - part[1]
  end
  return n
end

-- Gives up what waits of some jobs, looking at so many at most; returns how many, the index up to which it is done, and
-- at how many it has looked.
-- What a worker had taken when it died counts as started.
local function give_up(id, key, start, stop, most, record, digest)
  local queued = key .. ':queued'
  local found, first = {}, nil
  for _, entry in ipairs(redis.call('LRANGE', queued, 0, -1)) do
    local from, upto, suspect = read_run(entry)
    if suspect == '' and from < stop and start < upto then
      found[#found + 1] = { from, upto, entry }
      first = math.min(first or stop, math.max(from, start))
    end
  end
  if not first then return 0, stop, 0 end
  local last, n = math.min(stop, first + most), 0
  for _, run in ipairs(found) do
    local from, upto = math.max(run[1], first), math.min(run[2], last)
    if from < upto then
      local expired, kept = never_started(key, from, upto)
      if run[1] < from then table.insert(kept, 1, { run[1], from }) end
      if upto < run[2] then kept[#kept + 1] = { upto, run[2] } end
      for _, part in ipairs(kept) do
        redis.call('LINSERT', queued, 'BEFORE', run[3], write_run(part[1], part[2]))
      end
      redis.call('LREM', queued, kept[1] and -1 or 1, run[3])
      n = n + fail_for_waiting(id, key, expired, record, digest)
    end
  end
  return n, last, last - first
end

-- The same of what is due of a batch; returns how many jobs it has looked at, at least 1.
local function give_up_overdue_of(id, queue, at, most)
  local key, looked, n = batch_key(id), 0, 0
  local seconds = redis.call('HGET', key, 'ttl')
  local runs = seconds and overdue_runs(key, at) or {}
  local reason = 'it still waited after its ttl of ' .. (seconds or '') .. ' seconds, and was given up'
  local digest = string.sub(redis.sha1hex('JobExpired' .. reason), 1, 12)
  local record = '!' .. cjson.encode({ type = 'JobExpired', message = reason, at = at })
  for _, run in ipairs(runs) do
    if looked < most then
      local given_up, upto, some = give_up(id, key, run[1], run[2], most - looked, record, digest)
      local score = redis.call('ZSCORE', key .. ':ttl', run[3][1])
      redis.call('ZREM', key .. ':ttl', unpack(run[3]))
      if upto < run[2] then redis.call('ZADD', key .. ':ttl', score, write_run(upto, run[2])) end
      n, looked = n + given_up, looked + math.max(1, some)
    end
  end
  if n > 0 then
    local example = string.match(redis.call('LINDEX', key .. ':ended', -1), '%d+')
    redis.call('HSETNX', key .. ':errors', digest,
      cjson.encode({ type = 'JobExpired', message = reason, example = tonumber(example), traceback = reason }))
    redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, n)
    move(id, 'queued', 'failed', n)
    if redis.call('EXISTS', key .. ':queued') == 0 then not_ready(id) end
    tell(id, 'changed')
  end
  note_next_deadline(key, id, queue)
  if n > 0 then check_end(id) end
  return math.max(1, looked)
end

-- Gives up what is due in a queue, about 1,000 jobs of at most 100 batches; whether there is more.
local function give_up_overdue(queue)
  if redis.call('EXISTS', queue .. ':ttl') == 0 then return false end
  local left, at = 1000, now()
  for _ = 1, 100 do
    local first = redis.call('ZRANGE', queue .. ':ttl', 0, 0, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) > at then return false end
    if left <= 0 then return true end
    left = left - give_up_overdue_of(first[1], queue, at, left)
  end
  return true
end
