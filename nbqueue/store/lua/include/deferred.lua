-- Jobs that wait for others: `deferred` has their runs by where they begin.
-- include: runs

local function defer(key, start, stop)
  redis.call('ZADD', key .. ':deferred', start, write_run(start, stop))
end

-- Takes out what of some jobs waits for others, so many at most; returns runs, and how many jobs these are.
local function take_deferred(key, from, upto, most)
  local deferred, taken, n = key .. ':deferred', {}, 0
  local runs = redis.call('ZREVRANGEBYSCORE', deferred, '(' .. from, '-inf', 'LIMIT', 0, 1)
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', deferred, from, '(' .. upto, 'LIMIT', 0, most)) do
    runs[#runs + 1] = run
  end
  for _, run in ipairs(runs) do
    local start, stop = read_run(run)
    local first = math.max(start, from)
    local last = math.min(stop, upto, first + most - n)
    if first < last then
      redis.call('ZREM', deferred, run)
      if start < first then defer(key, start, first) end
      if last < stop then defer(key, last, stop) end
      taken[#taken + 1] = { first, last }
      n = n + last - first
    end
  end
  return taken, n
end

-- The run in which a job waits for others.
local function deferred_run(key, index)
  local run = redis.call('ZREVRANGEBYSCORE', key .. ':deferred', index, '-inf', 'LIMIT', 0, 1)[1]
  if run and select(2, read_run(run)) > index then return run end
end

-- Those that were submitted with the same dependencies wait as a group: `unmet` has, by its first index, "stop pending
-- failed flags due dependency,dependency,...": how many have not ended, and have failed; 'f' goes to the front; when
-- they are due; the first ones. Where a group has several jobs, `groups` has it by where it begins.
local function read_group(text)
  if not text then return nil end
  local stop, pending, failed, flags, due, names = string.match(text, '^(%d+) (%d+) (%d+) (%a*) (%S*) (.*)$')
  return { stop = tonumber(stop), pending = tonumber(pending), failed = tonumber(failed), flags = flags, due = due,
    names = names }
end

local function write_group(key, start, group)
  redis.call('HSET', key .. ':unmet', start, string.format('%d %d %d %s %s %s', group.stop, group.pending,
    group.failed, group.flags, group.due, group.names))
  if group.stop - start > 1 then redis.call('ZADD', key .. ':groups', start, start) end
end

local function drop_group(key, start, group)
  redis.call('HDEL', key .. ':unmet', start)
  if group.stop - start > 1 then redis.call('ZREM', key .. ':groups', start) end
end

-- The group that a job is of, and where it begins; nil if it waits for nothing.
local function group_of(key, index)
  local group = read_group(redis.call('HGET', key .. ':unmet', index))
  if group then return group, index end
  local start = redis.call('ZREVRANGEBYSCORE', key .. ':groups', index, '-inf', 'LIMIT', 0, 1)[1]
  if not start then return nil end
  group = read_group(redis.call('HGET', key .. ':unmet', start))
  if group and group.stop > index then return group, tonumber(start) end
end
