-- Waking idle workers.

-- One token wakes one idle worker; whoever leaves jobs behind puts it back.
local function wake(queue)
  if redis.call('EXISTS', queue .. ':wake') == 0 then
    redis.call('RPUSH', queue .. ':wake', '1')
    redis.call('EXPIRE', queue .. ':wake', 3600)
  end
end

local function wake_if_any(queue)
  if redis.call('EXISTS', queue .. ':ready', queue .. ':suspects') > 0 then wake(queue) end
end
