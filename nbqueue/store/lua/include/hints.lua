-- Hints for those who wait.
-- include: keys
local function tell(id, message)
  redis.call('PUBLISH', batch_key(id), message)
end
