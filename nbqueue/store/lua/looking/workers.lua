-- Lists the workers.
-- KEYS[1]  prefix of all keys
-- Returns  {worker, number of leases, {field, value, ...}, ...}
-- include: keys
local found = {}
for _, worker in ipairs(redis.call('ZRANGE', prefix .. 'workers', 0, -1)) do
  found[#found + 1] = worker
  found[#found + 1] = redis.call('HLEN', worker_key(worker) .. ':leases')
  found[#found + 1] = redis.call('HGETALL', worker_key(worker))
end
return found
