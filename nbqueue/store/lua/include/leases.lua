-- A lease is "batch start stop cost kind": cost in microseconds a job as it was charged;
-- kind "" is usual, "s" is suspect, "x" is suspect and alone on its worker.
local function read_lease(lease)
  local id, start, stop, cost, kind = string.match(lease, '^(%S+) (%d+) (%d+) (%d+) (%a?)$')
  return { batch = id, start = tonumber(start), stop = tonumber(stop), cost = tonumber(cost), kind = kind }
end

local function write_lease(lease)
  return string.format('%s %d %d %d %s', lease.batch, lease.start, lease.stop, lease.cost, lease.kind or '')
end
