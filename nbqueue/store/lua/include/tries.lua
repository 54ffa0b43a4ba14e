-- How a job went that runs again: the records of its last 20 attempts.

local function keep_try(key, index, attempt, record)
  redis.call('HINCRBY', key .. ':attempts', index, 1)
  redis.call('HSET', key .. ':tries', index .. ':' .. attempt, record)
  redis.call('HDEL', key .. ':tries', index .. ':' .. (attempt - 20))
end
