-- Reads one job.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- Returns  {} if there is no such batch, or
--          {state, own outcome or '', outcome of its block or '', attempts, name of the worker or ''},
--          where the state is 'ended', 'canceled', 'started', 'queued' or 'unknown'
local id, index = ARGV[1], tonumber(ARGV[2])
local key = batch_key(id)
local h = redis.call('HMGET', key, 'total', 'per_block', 'queue', 'environment')
if not h[1] then return {} end
if index >= tonumber(h[1]) then return { 'unknown', '', '', 0, '' } end
local attempts = tonumber(redis.call('HGET', key .. ':attempts', index) or '0')
local block = 'b' .. math.floor(index / tonumber(h[2]))
local records = redis.call('HMGET', key .. ':outcomes', index, block)

local function within(runs)
  for _, run in ipairs(redis.call('LRANGE', runs, 0, -1)) do
    local start, stop = read_run(run)
    if start <= index and index < stop then return true end
  end
  return false
end

local state, worker_name = 'ended', ''
if records[1] then
  state = 'ended'
elseif within(key .. ':queued') or
  redis.call('LPOS', queue_key(h[3], h[4]) .. ':suspects', id .. ' ' .. index) then
  state = 'queued'
elseif within(key .. ':canceled') then
  state = 'canceled'
else
  for _, lease in ipairs(leases_of(id)) do
    if lease.start <= index and index < lease.stop then
      state = 'started'
      worker_name = redis.call('HGET', worker_key(lease.worker), 'name') or lease.worker
    end
  end
end
return { state, records[1] or '', records[2] or '', attempts, worker_name }
