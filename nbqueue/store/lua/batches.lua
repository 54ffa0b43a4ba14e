-- Lists the newest batches; forgets those that have expired.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  how many at most
-- ARGV[2]  queue, or '' for all
-- Returns  {batch, {field, value, ...}, ...}
local most, queue = tonumber(ARGV[1]), ARGV[2]
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', prefix .. 'batches', 0, -1)) do
  if #found >= 2 * most then break end
  local h = redis.call('HGETALL', batch_key(id))
  if #h == 0 then
    redis.call('ZREM', prefix .. 'batches', id)
  elseif queue == '' or redis.call('HGET', batch_key(id), 'queue') == queue then
    found[#found + 1] = id
    found[#found + 1] = h
  end
end
return found
