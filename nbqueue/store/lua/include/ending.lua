-- The end of a batch. That of an open one, to which its client appends single calls, has two parts: it has ended
-- whenever none of its jobs is left, and what an end brings with it comes when it is closed.
-- include: keys, clock, parts, code, hints, settled

-- It expires, unless it is kept for ever (a time below 0), and large calls that cannot run again are freed.
local function conclude(id)
  local key = batch_key(id)
  local finished, failed, canceled, ended_at, result_ttl, failure_ttl, functions, name, environment = unpack(
    redis.call('HMGET', key, 'finished', 'failed', 'canceled', 'ended_at', 'result_ttl', 'failure_ttl', 'functions',
      'queue', 'environment'))
  if failed + canceled == 0 and tonumber(finished) > 1000 then
    redis.call('UNLINK', key .. ':calls', key .. ':calls:bulk')
  end
  redis.call('ZREM', prefix .. 'queue:' .. name .. ':unfinished', id)
  local ttl = tonumber(failed + canceled > 0 and failure_ttl or result_ttl)
  if ttl < 0 then return end
  local at = now()
  ttl = math.max(0, math.ceil(ttl - (at - tonumber(ended_at))))
  for _, part in ipairs(parts_at_end(key)) do redis.call('EXPIRE', key .. part, ttl) end
  redis.call('ZADD', prefix .. 'expiring', string.format('%.3f', at + ttl), id)
  redis.call('HSET', prefix .. 'expiring:jobs', id,
    finished .. ' ' .. failed .. ' ' .. canceled .. ' ' .. name .. ' ' .. environment)
  unlink_code(id, functions or '', ttl)
end

-- Ends a batch whose jobs have all ended.
local function check_end(id)
  local key = batch_key(id)
  local total, finished, failed, canceled, is_submitting, is_open, ended_at, has_dependents, ttl = unpack(
    redis.call('HMGET', key, 'total', 'finished', 'failed', 'canceled', 'is_submitting', 'is_open', 'ended_at',
      'has_dependents', 'ttl'))
  if not total or is_submitting or ended_at then return end
  if finished + failed + canceled < tonumber(total) then return end
  redis.call('HSET', key, 'ended_at', now_text())
  redis.call('DEL', key .. ':cancels', key .. ':passes', key .. ':deaths')
  if ttl then
    redis.call('DEL', key .. ':ttl')
    redis.call('ZREM', queue_key(unpack(redis.call('HMGET', key, 'queue', 'environment'))) .. ':ttl', id)
  end
  if has_dependents then note_settled(id, -1, 0, 'ended') end
  if not is_open then conclude(id) end
  tell(id, 'ended')
end

-- Closes batches that were open for long enough, so many at most.
local function close_some(most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', now(), 'LIMIT', 0, most)) do
    redis.call('ZREM', prefix .. 'open', id)
    redis.call('HDEL', batch_key(id), 'is_open')
    if redis.call('HEXISTS', batch_key(id), 'ended_at') == 1 then conclude(id) end
  end
end
