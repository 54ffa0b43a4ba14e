-- Jobs whose end is decided, and whose callback is still to be called in another process: how they end, by index, in
-- `batch:<id>:decided`. Until then they wait in the queue, as suspects.

local function decide(key, index, how)
  redis.call('HSET', key, 'has_decided', 1)
  redis.call('HSET', key .. ':decided', index, how)
end

-- Whether something is called after jobs of a batch that have failed; one that is told so for nothing calls nothing.
local function calls_back_after_failure(key)
  return string.find(redis.call('HGET', key, 'description') or '', '"on_failure"', 1, true) ~= nil
end

-- These jobs have ended.
local function forget_decided(key, start, stop)
  if redis.call('HEXISTS', key, 'has_decided') == 0 then return end
  for _, index in ipairs(redis.call('HKEYS', key .. ':decided')) do
    if start <= tonumber(index) and tonumber(index) < stop then redis.call('HDEL', key .. ':decided', index) end
  end
end
