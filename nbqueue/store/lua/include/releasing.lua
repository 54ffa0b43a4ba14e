-- Jobs that waited for others start, or fail because of one.
-- include: keys, runs, clock, counters, fair_share, schedule, deferred, giving_up

-- What of some jobs waits for others is queued, or waits for its time.
local function release(id, from, upto, flags, due)
  local key = batch_key(id)
  local taken, n = take_deferred(key, from, upto, upto - from)
  if n == 0 then return end
  local name, environment, ttl = unpack(redis.call('HMGET', key, 'queue', 'environment', 'ttl'))
  local queue, at = queue_key(name, environment), now()
  if due ~= '' and tonumber(due) > at then at = tonumber(due) end
  for _, run in ipairs(ttl and taken or {}) do give_up_at(key, id, queue, run[1], run[2], at + tonumber(ttl)) end
  count(key, queue, 'deferred', -n)
  if due ~= '' and tonumber(due) == at then
    count(key, queue, 'scheduled', n)
    for _, run in ipairs(taken) do schedule(key, id, queue, run[1], run[2], tonumber(due)) end
    return
  end
  count(key, queue, 'queued', n)
  if string.find(flags, 'f', 1, true) then
    for i = #taken, 1, -1 do redis.call('LPUSH', key .. ':queued', write_run(taken[i][1], taken[i][2])) end
    make_ready(id, true)
  else
    push_back(key, taken)
    make_ready(id)
  end
end
