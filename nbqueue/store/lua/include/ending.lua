-- The end of a batch.
-- include: keys, clock, parts, code, hints, settled

-- Ends a batch whose jobs have all ended: it expires, unless it is kept for ever (a time below 0), and large calls that
-- cannot run again are freed.
local function check_end(id)
  local key = batch_key(id)
  local total, finished, failed, canceled, is_submitting, ended_at, result_ttl, failure_ttl, functions, name,
    environment, has_dependents, waits_for = unpack(redis.call('HMGET', key, 'total', 'finished', 'failed', 'canceled',
      'is_submitting', 'ended_at', 'result_ttl', 'failure_ttl', 'functions', 'queue', 'environment', 'has_dependents',
      'ttl'))
  if not total or is_submitting or ended_at then return end
  if finished + failed + canceled < tonumber(total) then return end
  local at = now()
  redis.call('HSET', key, 'ended_at', string.format('%.6f', at))
  redis.call('DEL', key .. ':cancels', key .. ':passes', key .. ':deaths')
  if waits_for then
    redis.call('DEL', key .. ':ttl')
    redis.call('ZREM', queue_key(name, environment) .. ':ttl', id)
  end
  if has_dependents then note_settled(id, -1, 0, 'ended') end
  if failed + canceled == 0 and tonumber(finished) > 1000 then
    redis.call('UNLINK', key .. ':calls', key .. ':calls:bulk')
  end
  redis.call('ZREM', prefix .. 'queue:' .. name .. ':unfinished', id)
  local ttl = tonumber(failed + canceled > 0 and failure_ttl or result_ttl)
  if ttl >= 0 then
    for _, part in ipairs(parts_at_end(key)) do redis.call('EXPIRE', key .. part, ttl) end
    redis.call('ZADD', prefix .. 'expiring', string.format('%.3f', at + ttl), id)
    redis.call('HSET', prefix .. 'expiring:jobs', id,
      finished .. ' ' .. failed .. ' ' .. canceled .. ' ' .. name .. ' ' .. environment)
    unlink_code(id, functions or '', ttl)
  end
  tell(id, 'ended')
end
