-- Canceling what waits.
-- include: keys, runs, counters, fair_share, schedule, deciding

-- `state`: in which the jobs were.
local function add_canceled(id, start, stop, state)
  local key = batch_key(id)
  redis.call('RPUSH', key .. ':canceled', write_run(start, stop))
  redis.call('RPUSH', key .. ':ended', 'c' .. write_run(start, stop))
  move(id, state, 'canceled', stop - start)
  forget_decided(key, start, stop)
end

-- Cancels what waits of a batch, also for a time unless it is `only_queued`; returns how many jobs.
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
  not_ready(id)
  return n
end
