-- The beginning of a batch.
-- include: keys, registry

-- Makes one that has no jobs yet, and lists it; `lifetimes` as `submit` takes them.
local function open_batch(id, token, name, environment, per_block, weight, lifetimes, description, at)
  local finished_ttl, failure_ttl, ttl = string.match(lifetimes, '^(%S+) ?(%S*) ?(%S*)$')
  redis.call('HSET', batch_key(id), 'token', token, 'queue', name, 'environment', environment, 'per_block', per_block,
    'weight', weight, 'result_ttl', finished_ttl, 'description', description, 'submitted_at', at, 'total', 0, 'busy', 0,
    'queued', 0, 'started', 0, 'deferred', 0, 'scheduled', 0, 'finished', 0, 'failed', 0, 'canceled', 0)
  if ttl ~= '' then redis.call('HSET', batch_key(id), 'ttl', ttl) end
  if failure_ttl ~= '' and failure_ttl ~= '-' then redis.call('HSET', batch_key(id), 'failure_ttl', failure_ttl) end
  register_batch(id, name, environment, at)
  forget_expired(2)
end
