-- Where a job is that has no outcome of its own.
-- include: keys, runs, holders, deferred

local function is_within(list, index)
  for _, run in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local start, stop = read_run(run)
    if start <= index and index < stop then return true end
  end
  return false
end

-- 'queued', 'deferred', 'scheduled' and when it is due, 'started' and by which worker, or 'canceled'; nil if it is in
-- none of these places.
local function place_of(id, index)
  local key = batch_key(id)
  if deferred_run(key, index) then return 'deferred' end
  if is_within(key .. ':queued', index) then return 'queued' end
  local queue = queue_key(unpack(redis.call('HMGET', key, 'queue', 'environment')))
  if redis.call('LPOS', queue .. ':suspects', id .. ' ' .. index) then return 'queued' end
  if is_within(key .. ':canceled', index) then return 'canceled' end
  local scheduled = redis.call('ZRANGE', key .. ':scheduled', 0, -1, 'WITHSCORES')
  for i = 1, #scheduled, 2 do
    local start, stop = read_run(scheduled[i])
    if start <= index and index < stop then return 'scheduled', scheduled[i + 1] end
  end
  for _, lease in ipairs(leases_of(id)) do
    if lease.start <= index and index < lease.stop then return 'started', lease.worker end
  end
end
