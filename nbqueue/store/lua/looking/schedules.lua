-- Lists schedules, of 1,000 at most, each with what became of its last run.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue, or '' for all
-- ARGV[2]  name, or '' for all
-- Returns  {{{field, value, ...}, last batch, jobs in it, 1 if it takes no more, 1 if some have not ended, when it
--          ended or '', when it was made, the time, state of the last run: '' if there is none, or it is not kept,
--          'queued', 'scheduled', 'started', 'finished', 'failed', 'canceled'}, ...}
-- include: keys, runs, firing

local function within(runs, index)
  for _, run in ipairs(runs) do
    local start, stop = read_run(run)
    if start <= index and index < stop then return true end
  end
  return false
end

local function state_of(last)
  local id, index = string.match(last or '', '^(%S+):(%d+)$')
  if not id or redis.call('EXISTS', batch_key(id)) == 0 then return '' end
  local key, n = batch_key(id), tonumber(index)
  if redis.call('HEXISTS', key .. ':failed', index) == 1 then return 'failed' end
  if redis.call('HEXISTS', key .. ':outcomes', index) == 1 then return 'finished' end
  if redis.call('HEXISTS', key .. ':outcomes', 'b' .. index) == 1 then return 'finished' end
  if within(redis.call('LRANGE', key .. ':canceled', 0, -1), n) then return 'canceled' end
  if within(redis.call('LRANGE', key .. ':queued', 0, -1), n) then return 'queued' end
  if within(redis.call('ZRANGE', key .. ':scheduled', 0, -1), n) then return 'scheduled' end
  return 'started'
end

local found = {}
for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'schedules')) do
  local queue, name = string.match(member, '^([^:]+):(.*)$')
  local is_meant = (ARGV[1] == '' or ARGV[1] == queue) and (ARGV[2] == '' or ARGV[2] == name)
  local read = is_meant and #found < 1000 and read_schedule(queue, name)
  if read then
    read[#read + 1] = state_of(redis.call('HGET', schedule_key(queue, name), 'last'))
    found[#found + 1] = read
  end
end
return found
