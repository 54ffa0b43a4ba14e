-- How a job went that runs again: the records of its last 20 attempts.

-- Forgets those of a job.
local function drop_tries(key, index)
  local attempts = tonumber(redis.call('HGET', key .. ':attempts', index) or '0')
  for attempt = math.max(1, attempts - 19), attempts do redis.call('HDEL', key .. ':tries', index .. ':' .. attempt) end
end

-- Keeps one; the job is counted as started once more.
local function keep_try(key, index, attempt, record)
  redis.call('HINCRBY', key .. ':attempts', index, 1)
  redis.call('HSET', key .. ':tries', index .. ':' .. attempt, record)
  redis.call('HDEL', key .. ':tries', index .. ':' .. (attempt - 20))
end
