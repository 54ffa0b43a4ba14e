-- The return of a batch that had ended.
-- include: keys, parts, code

-- A batch that had ended has jobs to do again.
local function revive(id)
  local key = batch_key(id)
  if redis.call('HDEL', key, 'ended_at') == 0 or redis.call('HEXISTS', key, 'is_open') == 1 then return end
  for _, part in ipairs(parts_at_end(key)) do redis.call('PERSIST', key .. part) end
  local name, submitted_at, functions = unpack(redis.call('HMGET', key, 'queue', 'submitted_at', 'functions'))
  redis.call('ZADD', prefix .. 'queue:' .. name .. ':unfinished', submitted_at, id)
  redis.call('ZREM', prefix .. 'expiring', id)
  redis.call('HDEL', prefix .. 'expiring:jobs', id)
  link_code(id, functions or '')
end
