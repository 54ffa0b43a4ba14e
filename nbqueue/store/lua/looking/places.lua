-- Tells which jobs of a batch are in some states.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2...] states: queued, started, deferred, scheduled, failed, canceled
-- Returns  {} if there is no such batch, or {number of its jobs, {index, ...} of those that were deleted, then, for
--          each state, {run or index, ...}}
-- include: keys, runs, holders
local id = ARGV[1]
local key = batch_key(id)
local total, name, environment = unpack(redis.call('HMGET', key, 'total', 'queue', 'environment'))
if not total then return {} end

local function queued()
  local found = redis.call('LRANGE', key .. ':queued', 0, -1)
  for _, entry in ipairs(redis.call('LRANGE', queue_key(name, environment) .. ':suspects', 0, -1)) do
    local batch, index = string.match(entry, '^(%S+) (%d+)$')
    if batch == id then found[#found + 1] = index end
  end
  return found
end

local function started()
  local found = {}
  for _, lease in ipairs(leases_of(id)) do found[#found + 1] = write_run(lease.start, lease.stop) end
  return found
end

local function in_state(state)
  if state == 'queued' then return queued() end
  if state == 'started' then return started() end
  if state == 'failed' then
    local found = redis.call('HKEYS', key .. ':failed')
    for _, index in ipairs(redis.call('HKEYS', key .. ':broken')) do found[#found + 1] = index end
    return found
  end
  if state == 'canceled' then return redis.call('LRANGE', key .. ':canceled', 0, -1) end
  return redis.call('ZRANGE', key .. ':' .. state, 0, -1)
end

local answer = { tonumber(total), redis.call('SMEMBERS', key .. ':forgotten') }
for i = 2, #ARGV do answer[#answer + 1] = in_state(ARGV[i]) end
return answer
