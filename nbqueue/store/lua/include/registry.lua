-- Which batches there are: all, those of a queue, those that have jobs to do, and those that expire. What expires is
-- forgotten some at a time, when there is a new batch, and when somebody looks.
-- include: keys, clock

local function register_batch(id, name, environment, at)
  redis.call('ZADD', prefix .. 'batches', at, id)
  redis.call('ZADD', prefix .. 'queue:' .. name .. ':batches', at, id)
  redis.call('ZADD', prefix .. 'queue:' .. name .. ':unfinished', at, id)
  if redis.call('HINCRBY', queue_key(name, environment) .. ':jobs', 'batches', 1) == 1 then
    redis.call('SADD', prefix .. 'queue:' .. name .. ':environments', environment)
    redis.call('SADD', prefix .. 'queues', name)
  end
end

-- It begins with deleting: a script whose first write frees memory passes when memory is full.
local function unregister_batch(id, name, environment, finished, failed, canceled)
  redis.call('ZREM', prefix .. 'batches', id)
  redis.call('ZREM', prefix .. 'queue:' .. name .. ':batches', id)
  redis.call('ZREM', prefix .. 'queue:' .. name .. ':unfinished', id)
  redis.call('ZREM', prefix .. 'open', id)
  redis.call('ZREM', prefix .. 'expiring', id)
  redis.call('HDEL', prefix .. 'expiring:jobs', id)
  local jobs, environments = queue_key(name, environment) .. ':jobs', prefix .. 'queue:' .. name .. ':environments'
  if redis.call('HINCRBY', jobs, 'batches', -1) > 0 then
    -- Not -finished: of 0 that would be '-0', which Redis takes for no number.
    redis.call('HINCRBY', jobs, 'finished', 0 - finished)
    redis.call('HINCRBY', jobs, 'failed', 0 - failed)
    redis.call('HINCRBY', jobs, 'canceled', 0 - canceled)
    return
  end
  redis.call('DEL', jobs)
  redis.call('SREM', environments, environment)
  if redis.call('EXISTS', environments) == 0 then redis.call('SREM', prefix .. 'queues', name) end
end

-- Forgets a batch that has expired: what it counted is written down. It stays where nothing can be written, as on a
-- full disk.
local function forget_expired_batch(id)
  local counted = redis.call('HGET', prefix .. 'expiring:jobs', id)
  if not counted or type(redis.pcall('ZREM', prefix .. 'expiring', id)) == 'table' then return false end
  local finished, failed, canceled, name, environment = string.match(counted, '^(%d+) (%d+) (%d+) (%S+) (.*)$')
  unregister_batch(id, name, environment, finished, failed, canceled)
  return true
end

local function forget_expired(most)
  local n = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'expiring', '-inf', now(), 'LIMIT', 0, most)) do
    if forget_expired_batch(id) then n = n + 1 end
  end
  return n
end
