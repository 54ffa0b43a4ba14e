-- Taking jobs back that were leased; those during which a process died are suspect.
-- include: keys, clock, runs, waking, fair_share, counters, canceling, ending, hints, failing, deciding

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
  move(id, 'started', 'queued', stop - start)
  if kind ~= 'x' then return push_front(id, start, stop, kind) end
  local queue = queue_key(unpack(redis.call('HMGET', batch_key(id), 'queue', 'environment')))
  redis.call('RPUSH', queue .. ':suspects', id .. ' ' .. start)
  wake(queue)
end

-- Takes jobs back from a lease: to the front of the queue, or to the canceled ones where that was asked for.
-- `kind` as in a lease.
local function give_back(id, start, stop, kind)
  local key = batch_key(id)
  if start >= stop or redis.call('EXISTS', key) == 0 then return end
  if redis.call('HEXISTS', key, 'is_canceled') == 1 then
    add_canceled(id, start, stop, 'started')
    tell(id, 'changed')
  elseif redis.call('EXISTS', key .. ':cancels') == 1 then
    local last = stop
    for i = stop - 1, start, -1 do
      if redis.call('SREM', key .. ':cancels', i) == 1 then
        if i + 1 < last then put_back(id, i + 1, last, kind) end
        add_canceled(id, i, i + 1, 'started')
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

-- A job during which a process died: it runs again, alone on a worker after the second time, and fails after the third.
local function after_death(id, index, reason)
  local key = batch_key(id)
  if redis.call('EXISTS', key) == 0 then return end
  local deaths = redis.call('HINCRBY', key .. ':deaths', index, 1)
  redis.call('HINCRBY', key .. ':attempts', index, 1)
  redis.call('HSET', key, 'has_attempts', 1)
  if deaths >= 3 then
    redis.call('HDEL', key .. ':deaths', index)
    local words = reason .. '; so it was the ' .. deaths .. ' times that it was started'
    if calls_back_after_failure(key) and redis.call('HEXISTS', key .. ':decided', index) == 0 then
      decide(key, index, '!' .. cjson.encode({ type = 'JobKilled', message = words, at = now() }))
      give_back(id, index, index + 1, 's')
    else
      fail_in_words(id, index, 'JobKilled', words)
    end
  else
    give_back(id, index, index + 1, deaths == 2 and 'x' or 's')
  end
end
