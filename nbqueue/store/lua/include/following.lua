-- Batches whose jobs each wait for that of the same index in another batch.
-- include: keys, runs, holders

-- The runs of a batch whose jobs have not ended.
local function unended(id)
  local key = batch_key(id)
  local name, environment, total = unpack(redis.call('HMGET', key, 'queue', 'environment', 'total'))
  local runs = { { tonumber(total), math.huge } }
  local function add(list)
    for _, run in ipairs(list) do
      local start, stop = read_run(run)
      runs[#runs + 1] = { start, stop }
    end
  end
  add(redis.call('LRANGE', key .. ':queued', 0, -1))
  add(redis.call('ZRANGE', key .. ':scheduled', 0, -1))
  add(redis.call('ZRANGE', key .. ':deferred', 0, -1))
  for _, entry in ipairs(redis.call('LRANGE', queue_key(name, environment) .. ':suspects', 0, -1)) do
    local batch, index = string.match(entry, '^(%S+) (%d+)$')
    if batch == id then runs[#runs + 1] = { tonumber(index), index + 1 } end
  end
  for _, lease in ipairs(leases_of(id)) do runs[#runs + 1] = { lease.start, lease.stop } end
  table.sort(runs, function(one, other) return one[1] < other[1] end)
  return runs
end

-- What of some jobs has ended in the batch that is followed, as entries of the work list.
local function catch_up(id, followed, from, upto)
  if redis.call('EXISTS', batch_key(followed)) == 0 then
    redis.call('RPUSH', prefix .. 'settled', string.format('%s %d %d fails %s *', id, from, upto, followed))
    return
  end
  for _, run in ipairs(unended(followed)) do
    if from < math.min(run[1], upto) then
      redis.call('RPUSH', prefix .. 'settled', string.format('%s %d %d follows %s', id, from, math.min(run[1], upto),
        followed))
    end
    from = math.max(from, run[2])
    if from >= upto then return end
  end
end
