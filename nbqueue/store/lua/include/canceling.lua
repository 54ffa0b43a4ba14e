-- Canceling what waits.
-- include: keys, runs, counters, fair_share, schedule, settled, deciding

-- `state`: in which the jobs were. `what` those are told who wait for them: see `settled.lua`.
local function add_canceled(id, start, stop, state, what)
  local key = batch_key(id)
  if state == 'started' and redis.call('SREM', key .. ':passes', start) == 1 then what = 'passed' end
  redis.call('RPUSH', key .. ':canceled', write_run(start, stop))
  redis.call('RPUSH', key .. ':ended', 'c' .. write_run(start, stop))
  move(id, state, 'canceled', stop - start)
  forget_decided(key, start, stop)
  note_settled(id, start, stop, what or 'canceled')
end

-- Runs, in order, neighbours as one.
local function joined(runs)
  table.sort(runs, function(one, other) return one[1] < other[1] end)
  local found = {}
  for _, run in ipairs(runs) do
    local last = found[#found]
    if last and last[2] == run[1] then last[2] = run[2] else found[#found + 1] = run end
  end
  return found
end

-- Takes out what of a batch waits for other jobs: all its runs, neighbours as one.
local function take_all_deferred(key)
  local runs = {}
  for i, run in ipairs(redis.call('ZRANGE', key .. ':deferred', 0, -1)) do runs[i] = { read_run(run) } end
  redis.call('DEL', key .. ':deferred')
  return joined(runs)
end

-- Cancels what waits of a batch, also for others and for a time unless it is `only_queued`; returns how many jobs.
local function cancel_waiting(id, only_queued)
  local key = batch_key(id)
  local queue = queue_key(unpack(redis.call('HMGET', key, 'queue', 'environment')))
  local n = 0
  for _, run in ipairs(redis.call('LRANGE', key .. ':queued', 0, -1)) do
    local start, stop = read_run(run)
    add_canceled(id, start, stop, 'queued')
    n = n + stop - start
  end
  redis.call('DEL', key .. ':queued')
  for _, entry in ipairs(redis.call('LRANGE', queue .. ':suspects', 0, -1)) do
    local batch, index = string.match(entry, '^(%S+) (%d+)$')
    if batch == id then
      redis.call('LREM', queue .. ':suspects', 1, entry)
      add_canceled(id, tonumber(index), tonumber(index) + 1, 'queued')
      n = n + 1
    end
  end
  for _, run in ipairs(only_queued and {} or take_scheduled(key, id, queue)) do
    local start, stop = read_run(run)
    add_canceled(id, start, stop, 'scheduled')
    n = n + stop - start
  end
  for _, run in ipairs(only_queued and {} or take_all_deferred(key)) do
    add_canceled(id, run[1], run[2], 'deferred')
    n = n + run[2] - run[1]
  end
  not_ready(id)
  return n
end
