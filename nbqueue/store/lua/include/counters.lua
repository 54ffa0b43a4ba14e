-- Each job of a batch is counted in one state, there and in its queue: queued, started, deferred, scheduled, finished,
-- failed or canceled.
-- include: keys

local function count(key, queue, state, n)
  redis.call('HINCRBY', queue .. ':jobs', state, n)
  return redis.call('HINCRBY', key, state, n)
end

-- Counts jobs that go from one state to another.
local function move(id, from, to, n)
  local key = batch_key(id)
  local queue = queue_key(unpack(redis.call('HMGET', key, 'queue', 'environment')))
  count(key, queue, from, -n)
  count(key, queue, to, n)
end
