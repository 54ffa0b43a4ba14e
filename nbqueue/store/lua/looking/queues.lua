-- Counts the jobs of a queue, or of all queues that have batches, by environment and state.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue, or '' for all
-- Returns  {queue, 1 if it is paused, {environment, {state, number of jobs, ..., "batches", number}, ...}, ...}
-- include: keys, registry
forget_expired(100)
local names = ARGV[1] == '' and redis.call('SMEMBERS', prefix .. 'queues') or { ARGV[1] }
local found = {}
for _, name in ipairs(names) do
  local environments = {}
  for _, environment in ipairs(redis.call('SMEMBERS', prefix .. 'queue:' .. name .. ':environments')) do
    environments[#environments + 1] = environment
    environments[#environments + 1] = redis.call('HGETALL', queue_key(name, environment) .. ':jobs')
  end
  found[#found + 1] = name
  found[#found + 1] = redis.call('EXISTS', prefix .. 'queue:' .. name .. ':paused')
  found[#found + 1] = environments
end
return found
