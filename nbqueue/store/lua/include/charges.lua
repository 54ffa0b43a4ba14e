-- What a batch pays for its share of the workers' time.

-- Corrects what a batch was charged, in microseconds of work.
local function charge(id, key, queue, weight, microseconds)
  local share = math.floor(microseconds / tonumber(weight or '1'))
  if share == 0 then return end  -- of a -0 Redis says that it is no number
  if redis.call('ZSCORE', queue .. ':ready', id) then
    redis.call('ZINCRBY', queue .. ':ready', share, id)
  else
    redis.call('HINCRBY', key, 'tag_us', share)
  end
end
