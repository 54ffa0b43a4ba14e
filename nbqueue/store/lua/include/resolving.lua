-- Telling those who wait for what has ended: the work list, at most some 1,000 jobs a call.
-- include: keys, runs, counters, ending, hints, settled, deferred, releasing, failing, reviving

-- How a job ended because of which others fail, in words: what failed first.
local root_of
function root_of(id, target)
  local key = batch_key(id)
  if redis.call('EXISTS', key) == 0 then
    return (target == '*' and 'batch ' .. id or 'job ' .. id .. ':' .. target) .. ' was deleted, or has expired'
  end
  if target == '*' then
    local failed, canceled, total = unpack(redis.call('HMGET', key, 'failed', 'canceled', 'total'))
    local one = redis.call('HRANDFIELD', key .. ':failed') or redis.call('HRANDFIELD', key .. ':broken')
    if not one then return string.format('%s of the %s jobs of batch %s were canceled', canceled, total, id) end
    return string.format('%s of the %s jobs of batch %s failed, such as: %s', failed, total, id, (root_of(id, one)))
  end
  local digest = redis.call('HGET', key .. ':failed', target)
  if digest then
    local summary = redis.call('HGET', key .. ':errors', digest)
    local is_read, error = pcall(cjson.decode, summary or '')
    if not is_read then return string.format('job %s:%s failed', id, target) end
    return string.format('job %s:%s failed (%s: %s)', id, target, error.type, string.sub(error.message, 1, 500))
  end
  if redis.call('HEXISTS', key .. ':broken', target) == 1 then
    local record = redis.call('HGET', key .. ':outcomes', target) or ''
    local is_read, outcome = pcall(cjson.decode, string.sub(record, 2))
    if is_read and outcome.root then return outcome.root, string.format('job %s:%s', id, target) end
  end
  return string.format('job %s:%s was canceled', id, target)
end

local function reason_of(id, target)
  local root, between = root_of(id, target)
  if between then between = between .. ' did not run, because ' end
  return 'it did not run, because ' .. (between or '') .. root, root
end

-- Jobs fail because of another one, or each because of that of the same index ('='); so many at most.
local function fail_because(id, from, upto, dependency, target, most)
  local taken, n = take_deferred(batch_key(id), from, upto, most)
  local message, root
  -- What was deleted does not bring them back: they are run again as others.
  local because = redis.call('EXISTS', batch_key(dependency)) == 1 and dependency or nil
  if n > 0 and target ~= '=' then message, root = reason_of(dependency, target) end
  for _, run in ipairs(taken) do
    for index = run[1], run[2] - 1 do
      if target == '=' then message, root = reason_of(dependency, index) end
      record_failure(id, index, { state = 'deferred', kind = 'DependencyFailed', message = message,
        because = because, root = root })
    end
    note_settled(id, run[1], run[2], 'ended')
  end
  if n > 0 then
    tell(id, 'changed')
    check_end(id)
  end
  return n, n < most
end

-- Jobs that failed because of others wait for them again.
local function bring_back(id, from, upto, most)
  local key = batch_key(id)
  local total, is_canceled = unpack(redis.call('HMGET', key, 'total', 'is_canceled'))
  if not total or is_canceled then return 1, upto end
  local n, position = 0, from
  local begins, is_any
  local function wait_again(stop)
    if not begins then return end
    is_any = true
    defer(key, begins, stop)
    redis.call('RPUSH', key .. ':ended', 'r' .. write_run(begins, stop))
    move(id, 'failed', 'deferred', stop - begins)
    note_settled(id, begins, stop, 'again')
    begins = nil
  end
  while position < upto and n < most do
    local digest = redis.call('HGET', key .. ':broken', position)
    if digest then
      redis.call('HDEL', key .. ':broken', position)
      redis.call('HDEL', key .. ':outcomes', position)
      if redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, -1) <= 0 then
        redis.call('HDEL', key .. ':errors', digest, 'n:' .. digest)
      end
      begins = begins or position
    else
      wait_again(position)
    end
    n, position = n + 1, position + 1
  end
  wait_again(position)
  if is_any then
    redis.call('HSET', key, 'is_retried', 1)
    revive(id)
    note_settled(id, -1, 0, 'again')
    tell(id, 'changed')
  end
  return n, position
end

local function push_first(...) redis.call('LPUSH', prefix .. 'settled', string.format(...)) end

-- One that somebody waits for has ended, or runs again.
local function meet(id, member, what)
  local target, waiting, start, may = string.match(member, '^(%S+) (%S+) (%d+) (%a*)$')
  local key = batch_key(waiting)
  local group = read_group(redis.call('HGET', key .. ':unmet', start))
  if not group then return end
  start = tonumber(start)
  if what == 'again' then
    group.failed, group.pending = group.failed - 1, group.pending + 1
    write_group(key, start, group)
    redis.call('ZADD', batch_key(id) .. ':dependents', target == '*' and -1 or target, member)
    redis.call('HSET', key, 'waits_for', id .. ':' .. target)
    if group.failed == 0 then push_first('%s %d %d mends', waiting, start, group.stop) end
    return
  end
  group.pending = group.pending - 1
  if what == 'failed' and may == '' then
    group.failed = group.failed + 1
    if redis.call('EXISTS', batch_key(id)) == 1 then
      redis.call('ZADD', batch_key(id) .. ':failed_dependents', target == '*' and -1 or target, member)
    end
    if group.failed == 1 then push_first('%s %d %d fails %s %s', waiting, start, group.stop, id, target) end
  end
  if group.pending + group.failed == 0 then
    drop_group(key, start, group)
    release(waiting, start, group.stop, group.flags, group.due)
  else
    write_group(key, start, group)
  end
end

-- How a job that has ended did, or a batch.
local function how_ended(key, target)
  if target == '*' then
    local failed, canceled = unpack(redis.call('HMGET', key, 'failed', 'canceled'))
    return failed + canceled > 0 and 'failed' or 'ok'
  end
  local bad = redis.call('HEXISTS', key .. ':failed', target) + redis.call('HEXISTS', key .. ':broken', target)
  return bad > 0 and 'failed' or 'ok'
end

-- Those that wait for some jobs of a batch, or for the batch, are told; returns how many, and whether that is all.
local function settle_dependents(id, from, upto, what, most)
  local key = batch_key(id)
  local is_there = redis.call('EXISTS', key) == 1
  -- It may have jobs again since then: its end comes.
  if is_there and from < 0 and what == 'ended' and redis.call('HEXISTS', key, 'ended_at') == 0 then return 1, true end
  local list = key .. (what == 'again' and ':failed_dependents' or ':dependents')
  local found = redis.call('ZRANGEBYSCORE', list, is_there and from or '-inf', is_there and upto - 1 or '+inf', 'LIMIT',
    0, most)
  for _, member in ipairs(found) do
    local how = what
    if not is_there or what == 'canceled' then
      how = 'failed'
    elseif what == 'passed' then
      how = 'ok'
    elseif what == 'ended' then
      how = how_ended(key, string.match(member, '^%S+'))
    end
    redis.call('ZREM', list, member)
    meet(id, member, how)
  end
  return #found, #found < most
end

-- The same for a batch that follows another one, whose jobs from one to another have ended.
local function settle_follower(id, followed, from, upto, what)
  local key = batch_key(followed)
  if redis.call('EXISTS', batch_key(id)) == 0 then
    redis.call('SREM', key .. ':followers', id)
  elseif what == 'again' then
    if from >= 0 then push_first('%s %d %d mends', id, from, upto) end
  elseif from < 0 then
    return
  elseif what == 'canceled' then
    push_first('%s %d %d fails %s =', id, from, upto, followed)
  elseif what == 'passed' then
    release(id, from, upto, '', '')
  else
    push_first('%s %d %d follows %s', id, from, upto, followed)
  end
end

-- Jobs start, or fail, as those of the same index have ended; returns how many were looked at.
local function follow(id, followed, from, upto, most)
  local key = batch_key(followed)
  local failed, canceled = unpack(redis.call('HMGET', key, 'failed', 'canceled'))
  if not failed or redis.call('EXISTS', batch_key(id)) == 0 then return 1, upto end
  if failed == '0' and canceled == '0' then
    release(id, from, upto, '', '')
    return 1, upto
  end
  local last = math.min(upto, from + most)
  local is_bad = {}
  for _, run in ipairs(canceled ~= '0' and redis.call('LRANGE', key .. ':canceled', 0, -1) or {}) do
    local start, stop = read_run(run)
    for index = math.max(start, from), math.min(stop, last) - 1 do is_bad[index] = true end
  end
  local begins, bad_from = from, nil
  for index = from, last do
    local bad = index < last and (is_bad[index] or
      redis.call('HEXISTS', key .. ':failed', index) + redis.call('HEXISTS', key .. ':broken', index) > 0)
    if bad_from and not bad then
      push_first('%s %d %d fails %s =', id, bad_from, index, followed)
      bad_from, begins = nil, index
    elseif bad and not bad_from then
      if begins < index then release(id, begins, index, '', '') end
      bad_from = index
    end
  end
  if begins < last and not bad_from then release(id, begins, last, '', '') end
  return last - from, last
end

-- Does some of the work list; returns how much of it is left.
local function resolve()
  local left = 1000
  while left > 0 do
    local entry = redis.call('LPOP', prefix .. 'settled')
    if not entry then return 0 end
    local id, from, upto, what, rest = string.match(entry, '^(%S+) (%-?%d+) (%d+) (%a+) ?(.*)$')
    from, upto = tonumber(from), tonumber(upto)
    local n, is_all = 1, true
    if what == 'fails' then
      local dependency, target = string.match(rest, '^(%S+) (%S+)$')
      n, is_all = fail_because(id, from, upto, dependency, target, left)
      if not is_all then push_first('%s', entry) end
    elseif what == 'mends' then
      local position
      n, position = bring_back(id, from, upto, left)
      if position < upto then push_first('%s %d %d mends', id, position, upto) end
    elseif what == 'follows' then
      local position
      n, position = follow(id, rest, from, upto, left)
      if position < upto then push_first('%s %d %d follows %s', id, position, upto, rest) end
    else
      n, is_all = settle_dependents(id, from, upto, what, left)
      if is_all then
        for _, follower in ipairs(redis.call('SMEMBERS', batch_key(id) .. ':followers')) do
          settle_follower(follower, id, from, upto, what)
        end
      else
        push_first('%s', entry)
      end
    end
    left = left - math.max(n, 1)
  end
  return redis.call('LLEN', prefix .. 'settled')
end
