-- Who holds leases on jobs of a batch.
-- include: keys, leases

-- The leases on jobs of a batch, each with its worker.
local function leases_of(id)
  local found = {}
  for _, worker in ipairs(redis.call('ZRANGE', prefix .. 'workers', 0, -1)) do
    for _, held in ipairs(redis.call('HVALS', worker_key(worker) .. ':leases')) do
      local lease = read_lease(held)
      if lease.batch == id then
        lease.worker = worker
        found[#found + 1] = lease
      end
    end
  end
  return found
end
