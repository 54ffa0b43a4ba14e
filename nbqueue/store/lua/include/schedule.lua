-- Jobs that wait for a time: the runs of a batch by when they are due, and the batches of a queue by their next ones.
-- Among these are schedules: '*' and a name.
-- include: keys, clock, runs, counters, fair_share, waking

-- Keeps the time at which the next run of a batch is due where workers look for it.
local function note_next_due(key, id, queue)
  local first = redis.call('ZRANGE', key .. ':scheduled', 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', queue .. ':scheduled', first[2], id)
    redis.call('HSET', key, 'due_at', first[2])
  else
    redis.call('ZREM', queue .. ':scheduled', id)
    redis.call('HDEL', key, 'due_at')
  end
end

-- Puts jobs where they wait for a time, in seconds since the epoch; they are counted by the caller.
local function schedule(key, id, queue, start, stop, due)
  redis.call('ZADD', key .. ':scheduled', string.format('%.3f', due), write_run(start, stop))
  note_next_due(key, id, queue)
  -- If it is the next one of all, whoever waits has to know.
  if redis.call('ZRANGE', queue .. ':scheduled', 0, 0)[1] == id then wake(queue) end
end

-- Puts runs behind those that wait; neighbours become one.
local function push_back(key, runs)
  local queued = key .. ':queued'
  local tail = redis.call('LINDEX', queued, -1)
  local start, stop, suspect
  if tail then start, stop, suspect = read_run(tail) end
  local place = tail and suspect == '' and 'tail'
  table.sort(runs, function(one, other) return one[1] < other[1] end)
  for _, run in ipairs(runs) do
    if place and stop == run[1] then
      stop = run[2]
    else
      if place == 'tail' then redis.call('LSET', queued, -1, write_run(start, stop)) end
      if place == 'new' then redis.call('RPUSH', queued, write_run(start, stop)) end
      place, start, stop = 'new', run[1], run[2]
    end
  end
  if place == 'tail' then redis.call('LSET', queued, -1, write_run(start, stop)) end
  if place == 'new' then redis.call('RPUSH', queued, write_run(start, stop)) end
end

-- Queues jobs of a batch whose time has come, of at most so many runs; returns how many runs these were.
local function queue_due_of(id, queue, at, most)
  local key = batch_key(id)
  local due = redis.call('ZRANGEBYSCORE', key .. ':scheduled', '-inf', string.format('%.3f', at), 'LIMIT', 0, most)
  if #due > 0 then
    redis.call('ZREM', key .. ':scheduled', unpack(due))
    local runs, n = {}, 0
    for i, run in ipairs(due) do
      local start, stop = read_run(run)
      runs[i] = { start, stop }
      n = n + stop - start
    end
    push_back(key, runs)
    move(id, 'scheduled', 'queued', n)
  end
  note_next_due(key, id, queue)
  if #due > 0 then make_ready(id) end
  return #due
end

-- Queues what is due, of 1,000 runs and 100 batches at most; returns the seconds until more is, or nil if none waits,
-- and the name of a schedule that is due: it is the caller's for five seconds, then another one's.
local function queue_due(queue)
  local left, at = 1000, now()
  for _ = 1, 100 do
    local first = redis.call('ZRANGE', queue .. ':scheduled', 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    if left <= 0 or tonumber(first[2]) > at then return math.max(0, tonumber(first[2]) - at) end
    if string.sub(first[1], 1, 1) == '*' then
      redis.call('ZADD', queue .. ':scheduled', string.format('%.3f', at + 5), first[1])
      return 0, string.sub(first[1], 2)
    end
    left = left - queue_due_of(first[1], queue, at, left)
  end
  return 0
end

-- Takes out what of a batch waits for a time: all its runs.
local function take_scheduled(key, id, queue)
  local runs = redis.call('ZRANGE', key .. ':scheduled', 0, -1)
  if #runs > 0 then
    redis.call('DEL', key .. ':scheduled')
    note_next_due(key, id, queue)
  end
  return runs
end
