-- Appends one call to a batch that its client keeps open: what `submit` does, for what happens thousands of times.
-- Where a worker is parked, the job is leased to it at once. Sent twice it acts once: it carries its index.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  token of the submitting client
-- ARGV[3]  index of the job
-- ARGV[4]  digest of the function
-- ARGV[5]  record of the call
-- Returns  1, or 0 if only `submit` can tell or do it: the function is not there, the batch was canceled or is gone
-- include: keys, runs, fair_share, counters, reviving, parking
local id, index = ARGV[1], tonumber(ARGV[3])
local key = batch_key(id)
local total, token, is_canceled, functions, ended_at, name, environment, is_paused, description, tag = unpack(
  redis.call('HMGET', key, 'total', 'token', 'is_canceled', 'functions', 'ended_at', 'queue', 'environment',
    'is_paused', 'description', 'tag_us'))
if token ~= ARGV[2] or is_canceled or not string.find(functions or '', ARGV[4], 1, true) then return 0 end
total = tonumber(total)
if total ~= index then return total > index and 1 or 0 end
local queue = queue_key(name, environment)
if ended_at then
  if redis.call('EXISTS', prefix .. 'code:' .. ARGV[4]) == 0 then return 0 end
  revive(id)
end
redis.call('HSET', key .. ':calls', 'b' .. ARGV[3], ARGV[5])
redis.call('HINCRBY', key, 'total', 1)
local worker, number
if not is_paused then worker, number = parked_worker(name, queue) end
if worker then
  hand(worker, number, { batch = id, start = index, stop = index + 1, cost = 0 }, description, ARGV[5])
  advance_clock(queue, tag)
  count(key, queue, 'started', 1)
  return 1
end
count(key, queue, 'queued', 1)
local queued = key .. ':queued'
local tail = redis.call('LINDEX', queued, -1)
local start, stop, suspect
if tail then start, stop, suspect = read_run(tail) end
if tail and stop == index and suspect == '' then
  redis.call('LSET', queued, -1, write_run(start, index + 1))
else
  redis.call('RPUSH', queued, write_run(index, index + 1))
end
-- Where it was ready before, somebody has been woken, or will be by whoever takes from it.
if not redis.call('ZSCORE', queue .. ':ready', id) then make_ready(id) end
return 1
