-- Reads one job.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- Returns  {} if there is no such batch, or
--          {state, own outcome or '', outcome of its block or '', attempts, name of the worker or '', when it is due,
--          jobs and batches that it waits for, the first of them}, where the state is its place (see
--          `job_places.lua`), 'ended', 'unknown': the batch has fewer jobs, or 'missing': it is in no place, and has no
--          outcome
-- include: keys, deferred, job_places
local id, index = ARGV[1], tonumber(ARGV[2])
local key = batch_key(id)
local total, per_block, follows = unpack(redis.call('HMGET', key, 'total', 'per_block', 'follows'))
if not total then return {} end
if index >= tonumber(total) then return { 'unknown', '', '', 0, '', '', {} } end
local attempts = tonumber(redis.call('HGET', key .. ':attempts', index) or '0')
local own, block = unpack(redis.call('HMGET', key .. ':outcomes', index, 'b' .. math.floor(index / per_block)))

-- What it waits for, of the first that it was submitted with.
local function unmet()
  if follows then return { follows .. ':' .. index } end
  local found = {}
  local group, start = group_of(key, index)
  for id, target in string.gmatch(group and group.names or '', '([^:,]+):([^,]+)') do
    local member = string.format('%s %s %d ', target, ARGV[1], start)
    local list = batch_key(id) .. ':dependents'
    if redis.call('ZSCORE', list, member) or redis.call('ZSCORE', list, member .. 'a') then
      found[#found + 1] = target == '*' and id or id .. ':' .. target
    end
  end
  return found
end

if own then return { 'ended', own, block or '', attempts, '', '', {} } end
local state, detail = place_of(id, index)
if not state then return { block and 'ended' or 'missing', '', block or '', attempts, '', '', {} } end
local worker = state == 'started' and (redis.call('HGET', worker_key(detail), 'name') or detail) or ''
return { state, '', block or '', attempts, worker, state == 'scheduled' and detail or '',
  state == 'deferred' and unmet() or {} }
