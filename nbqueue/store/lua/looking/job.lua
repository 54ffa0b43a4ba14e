-- Reads one job.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- Returns  {} if there is no such batch, or
--          {state, own outcome or '', outcome of its block or '', attempts, name of the worker or '', when it is due},
--          where the state is 'ended', 'canceled', 'started', 'queued', 'scheduled', 'unknown': the batch has fewer
--          jobs, or 'missing': it has no outcome, and is in no other place
-- include: keys, runs, holders
local id, index = ARGV[1], tonumber(ARGV[2])
local key = batch_key(id)
local total, per_block, name, environment = unpack(redis.call('HMGET', key,
  'total', 'per_block', 'queue', 'environment'))
if not total then return {} end
if index >= tonumber(total) then return { 'unknown', '', '', 0, '', '' } end
local attempts = tonumber(redis.call('HGET', key .. ':attempts', index) or '0')
local own, block = unpack(redis.call('HMGET', key .. ':outcomes', index, 'b' .. math.floor(index / per_block)))

local function within(runs)
  for _, run in ipairs(redis.call('LRANGE', runs, 0, -1)) do
    local start, stop = read_run(run)
    if start <= index and index < stop then return true end
  end
  return false
end

local function state_of()
  if own then return 'ended', '' end
  if within(key .. ':queued') then return 'queued', '' end
  if redis.call('LPOS', queue_key(name, environment) .. ':suspects', id .. ' ' .. index) then return 'queued', '' end
  if within(key .. ':canceled') then return 'canceled', '' end
  local scheduled = redis.call('ZRANGE', key .. ':scheduled', 0, -1, 'WITHSCORES')
  for i = 1, #scheduled, 2 do
    local start, stop = read_run(scheduled[i])
    if start <= index and index < stop then return 'scheduled', '', scheduled[i + 1] end
  end
  for _, lease in ipairs(leases_of(id)) do
    if lease.start <= index and index < lease.stop then
      return 'started', redis.call('HGET', worker_key(lease.worker), 'name') or lease.worker
    end
  end
  return block and 'ended' or 'missing', ''
end

local state, worker, due = state_of()
return { state, own or '', block or '', attempts, worker, due or '' }
