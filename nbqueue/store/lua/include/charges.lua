-- What a batch pays for its share of the workers' time.

-- Corrects what a batch was charged, in microseconds of work.
local function charge(id, key, queue, weight, microseconds)
  local seconds = string.format('%.6f', microseconds / 1000000 / tonumber(weight or '1'))
  if redis.call('ZSCORE', queue .. ':ready', id) then
    redis.call('ZINCRBY', queue .. ':ready', seconds, id)
  else
    redis.call('HINCRBYFLOAT', key, 'tag', seconds)
  end
end
