-- Starts a run of a schedule, or passes it over because the one before has not ended.
-- Sent twice, or by several who saw that it is due, it acts once: it carries what they saw, which it changes.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  name of the schedule
-- ARGV[3]  its token, as it was read
-- ARGV[4]  number of its runs, as it was read
-- ARGV[5]  when it was due, as it was read; '' for a run out of turn
-- ARGV[6]  when it is due next, in seconds since the epoch; '' stays as it is
-- ARGV[7]  times that are passed over
-- ARGV[8]  batch that the run becomes a job of, a new one or the last one; '' if there is no run
-- ARGV[9]  index of the job in it, 0 in a new one
-- ARGV[10] record of the call
-- ARGV[11] batches of its runs that are kept
-- ARGV[12] why it cannot be fired by this worker, in words; '' as a rule
-- ARGV[13] token of this request
-- Returns  {'ok', batch, ...}: those are to be deleted | {'done'}: somebody has fired it, or it was changed |
--          {'gone'}: there is no such schedule | {'again'}: its runs are not as they were read
-- include: keys, clock, runs, counters, opening, code, fair_share, reviving, firing
local name, title, token, runs, due, next_due, skipped, id, index, record, most, problem, request =
  unpack(ARGV, 1, 13)
local key = schedule_key(name, title)
local known, runs_now, due_now, fired_by, is_paused, environment, batches, at_front, functions, weight, lifetimes,
  description = unpack(redis.call('HMGET', key, 'token', 'runs', 'due', 'fired_by', 'is_paused', 'environment',
    'batches', 'at_front', 'functions', 'weight', 'lifetimes', 'description'))
if not known then return { 'gone' } end
if fired_by == request then return { 'ok' } end
if known ~= token or (due ~= '' and (due_now ~= due or is_paused)) then return { 'done' } end
local queue = queue_key(name, environment)
if problem ~= '' then
  redis.call('HSET', key, 'problem', problem)
  return { 'ok' }
end

local batch, is_as_read = batch_key(id), runs_now == runs
if id ~= '' then
  local total, batch_token, is_canceled = unpack(redis.call('HMGET', batch, 'total', 'token', 'is_canceled'))
  if (tonumber(total) or 0) ~= tonumber(index) or is_canceled then is_as_read = false end
  if total and (batch_token ~= token or index == '0') then is_as_read = false end
  if index == '0' and redis.call('EXISTS', batch .. ':deleted') == 1 then is_as_read = false end
end
if not is_as_read then
  if due ~= '' then redis.call('ZADD', queue .. ':scheduled', due, '*' .. title) end
  return { 'again' }
end

local at = string.format('%.6f', now())
if next_due ~= '' then
  redis.call('HSET', key, 'due', next_due)
  redis.call('ZADD', queue .. ':scheduled', next_due, '*' .. title)
end
if tonumber(skipped) > 0 then
  redis.call('HINCRBY', key, 'skipped', skipped)
  redis.call('HSET', key, 'skipped_at', at)
end
redis.call('HSET', key, 'fired_by', request)
redis.call('HDEL', key, 'problem')
if id == '' then return { 'ok' } end

local answer = { 'ok' }
if index == '0' then
  open_batch(id, token, name, environment, 1, weight, lifetimes, description, at)
  redis.call('HSET', batch, 'functions', functions)
  link_code(id, functions)
  local kept, n = id, 1
  for other in string.gmatch(batches or '', '%S+') do
    if redis.call('EXISTS', batch_key(other)) == 1 then
      n = n + 1
      kept = kept .. ' ' .. other
      if n > tonumber(most) then answer[#answer + 1] = other end
    end
  end
  redis.call('HSET', key, 'batches', kept)
else
  revive(id)
end
redis.call('HSET', batch .. ':calls', 'b' .. index, record)
redis.call('HINCRBY', batch, 'total', 1)
count(batch, queue, 'queued', 1)
local first = tonumber(index)
redis.call(at_front and 'LPUSH' or 'RPUSH', batch .. ':queued', write_run(first, first + 1))
make_ready(id, at_front)
redis.call('HINCRBY', key, 'runs', 1)
redis.call('HSET', key, 'last', id .. ':' .. index, 'last_at', at)
return answer
