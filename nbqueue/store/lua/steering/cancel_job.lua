-- Cancels one job: at once if it waits, by an order to its worker if it runs.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- ARGV[3]  '1' if those that wait for it go on all the same, otherwise they fail
-- Returns  'canceled' | 'canceling' | 'ended' before | 'gone': no such job
-- include: keys, runs, holders, orders, fair_share, canceling, ending, hints, schedule, deferred, resolving
local id, index, what = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1' and 'passed' or 'canceled'
local key = batch_key(id)
local total, name, environment = unpack(redis.call('HMGET', key, 'total', 'queue', 'environment'))
if not total or index >= tonumber(total) then return 'gone' end

local function cancel_now(state)
  add_canceled(id, index, index + 1, state, what)
  tell(id, 'changed')
  check_end(id)
  resolve()
  return 'canceled'
end

for _, run in ipairs(redis.call('LRANGE', key .. ':queued', 0, -1)) do
  local start, stop, suspect = read_run(run)
  if start <= index and index < stop then
    if start < index then redis.call('LINSERT', key .. ':queued', 'BEFORE', run, write_run(start, index, suspect)) end
    if index + 1 < stop then
      redis.call('LINSERT', key .. ':queued', 'AFTER', run, write_run(index + 1, stop, suspect))
    end
    redis.call('LREM', key .. ':queued', 1, run)
    if redis.call('EXISTS', key .. ':queued') == 0 then not_ready(id) end
    return cancel_now('queued')
  end
end
if redis.call('LREM', queue_key(name, environment) .. ':suspects', 1, id .. ' ' .. index) == 1 then
  return cancel_now('queued')
end
for _, run in ipairs(redis.call('ZRANGE', key .. ':scheduled', 0, -1)) do
  local start, stop = read_run(run)
  if start <= index and index < stop then
    local due = redis.call('ZSCORE', key .. ':scheduled', run)
    redis.call('ZREM', key .. ':scheduled', run)
    if start < index then redis.call('ZADD', key .. ':scheduled', due, write_run(start, index)) end
    if index + 1 < stop then redis.call('ZADD', key .. ':scheduled', due, write_run(index + 1, stop)) end
    note_next_due(key, id, queue_key(name, environment))
    return cancel_now('scheduled')
  end
end
if #take_deferred(key, index, index + 1, 1) > 0 then return cancel_now('deferred') end
for _, lease in ipairs(leases_of(id)) do
  if lease.start <= index and index < lease.stop then
    redis.call('SADD', key .. ':cancels', index)
    redis.call(what == 'passed' and 'SADD' or 'SREM', key .. ':passes', index)
    order_cancel(lease.worker, 'cancel_job ' .. id .. ' ' .. index)
    return 'canceling'
  end
end
return 'ended'
