-- Which batch's jobs are taken next: that with the smallest tag, which is the time that it has had.
-- include: keys, waking

-- Lets workers find a batch that has jobs to take. It starts at the queue's present virtual time.
local function make_ready(id, at_front)
  local key = batch_key(id)
  local name, environment, is_paused, tag = unpack(redis.call('HMGET', key,
    'queue', 'environment', 'is_paused', 'tag_us'))
  if not name or is_paused or redis.call('EXISTS', key .. ':queued') == 0 then return end
  local queue = queue_key(name, environment)
  local first, lowest = unpack(redis.call('ZRANGE', queue .. ':ready', 0, 0, 'WITHSCORES'))
  -- Where nothing was claimed for so long that the clock has expired, those that wait tell the time.
  local clock = tonumber(redis.call('GET', queue .. ':clock') or lowest or '0')
  if at_front then
    -- What is in front stays where it is: moved further each time, it would take the clock back with it.
    if first ~= id then redis.call('ZADD', queue .. ':ready', (tonumber(lowest) or clock) - 1000000, id) end
  else
    redis.call('ZADD', queue .. ':ready', 'NX', math.max(tonumber(tag or '0'), clock), id)
  end
  if redis.call('EXISTS', prefix .. 'queue:' .. name .. ':paused') == 0 then wake(queue) end
end

-- The queue's virtual time is at least the tag of the batch that was taken from last.
local function advance_clock(queue, tag)
  if tag and tonumber(tag) > tonumber(redis.call('GET', queue .. ':clock') or '0') then
    redis.call('SET', queue .. ':clock', tag, 'EX', 604800)
  end
end

local function not_ready(id)
  local key = batch_key(id)
  local name, environment = unpack(redis.call('HMGET', key, 'queue', 'environment'))
  if not name then return end
  local ready = queue_key(name, environment) .. ':ready'
  local tag = redis.call('ZSCORE', ready, id)
  if tag then
    redis.call('ZREM', ready, id)
    redis.call('HSET', key, 'tag_us', math.floor(tonumber(tag)))
  end
end
