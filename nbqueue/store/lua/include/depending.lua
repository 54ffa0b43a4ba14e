-- Submitting jobs that wait for others.
-- include: keys, deferred, job_places

-- 'ok', 'failed' (or canceled), 'pending' or 'unknown'. `target`: the index of a job, or '*' for its batch.
local function state_of_dependency(id, target)
  local key = batch_key(id)
  local total, per_block, ended_at, failed, canceled, has_forgotten = unpack(redis.call('HMGET', key, 'total',
    'per_block', 'ended_at', 'failed', 'canceled', 'has_forgotten'))
  if not total then return 'unknown' end
  if target == '*' then
    if not ended_at then return 'pending' end
    return failed + canceled > 0 and 'failed' or 'ok'
  end
  local index = tonumber(target)
  if index >= tonumber(total) then return 'unknown' end
  if has_forgotten and redis.call('SISMEMBER', key .. ':forgotten', target) == 1 then return 'unknown' end
  if redis.call('HEXISTS', key .. ':failed', target) + redis.call('HEXISTS', key .. ':broken', target) > 0 then
    return 'failed'
  end
  if redis.call('HEXISTS', key .. ':outcomes', target) == 1 then return 'ok' end
  local place = place_of(id, index)
  if place then return place == 'canceled' and 'failed' or 'pending' end
  local block = 'b' .. math.floor(index / per_block)
  return redis.call('HEXISTS', key .. ':outcomes', block) == 1 and 'ok' or 'unknown'
end

-- A line is "start stop flags|batch target flags|...": jobs, with 'f' if they go to the front, and what they wait for,
-- with 'a' if that may fail. Returns them, with the states of these, and one that is unknown or nil.
local function read_dependencies(lines)
  local groups, states = {}, {}
  for line in string.gmatch(lines, '[^\n]+') do
    local start, stop, flags, rest = string.match(line, '^(%d+) (%d+) (%a*)(.*)$')
    local group = { start = tonumber(start), stop = tonumber(stop), flags = flags, on = {} }
    for id, target, may in string.gmatch(rest, '|(%S+) (%S+) (%a*)') do
      local name = id .. ' ' .. target
      states[name] = states[name] or state_of_dependency(id, target)
      if states[name] == 'unknown' then return nil, target == '*' and id or id .. ':' .. target end
      group.on[#group.on + 1] = { id = id, target = target, may = may, state = states[name], name = name }
    end
    groups[#groups + 1] = group
  end
  return groups
end

-- What waits for an entry of `dependents`, of a batch whose jobs have not ended, or of `failed_dependents`.
local function wait_for(dependency, list, id, start)
  local upstream = batch_key(dependency.id)
  redis.call('HSET', upstream, 'has_dependents', 1)
  return redis.call('ZADD', upstream .. list, dependency.target == '*' and -1 or dependency.target,
    string.format('%s %s %d %s', dependency.target, id, start, dependency.may))
end

-- Lets a group of jobs wait; returns whether it does. One of which something has failed fails with the next claim.
local function defer_group(id, group, due)
  local key = batch_key(id)
  local pending, failed, names, because = 0, 0, {}, nil
  for _, dependency in ipairs(group.on) do
    if dependency.state == 'pending' then
      pending = pending + wait_for(dependency, ':dependents', id, group.start)
      if #names < 5 then names[#names + 1] = dependency.id .. ':' .. dependency.target end
    elseif dependency.state == 'failed' and dependency.may == '' then
      local n = wait_for(dependency, ':failed_dependents', id, group.start)
      failed = failed + n
      because = because or dependency.name
    end
  end
  if pending + failed == 0 then return false end
  write_group(key, group.start, { stop = group.stop, pending = pending, failed = failed, flags = group.flags, due = due,
    names = table.concat(names, ',') })
  defer(key, group.start, group.stop)
  if names[1] then redis.call('HSET', key, 'waits_for', names[1]) end
  if because then
    redis.call('RPUSH', prefix .. 'settled', string.format('%s %d %d fails %s', id, group.start, group.stop, because))
  end
  return true
end
