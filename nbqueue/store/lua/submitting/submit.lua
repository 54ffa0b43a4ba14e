-- Stores calls as jobs of a batch, which the first submission makes.
-- Sent twice it acts once: it carries its first index.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  token of the submitting client: tells an id that is taken from a command that is sent again
-- ARGV[3]  index of the first job
-- ARGV[4]  number of jobs
-- ARGV[5]  '1' if this is the last submission of the batch; '60' if single calls may follow for so many seconds
-- ARGV[6]  '1' if the jobs go before all others of the queue
-- ARGV[7]  queue
-- ARGV[8]  environment
-- ARGV[9]  calls per block
-- ARGV[10] weight in the fair share
-- ARGV[11] seconds that it is kept after its end, and, if that differs, where jobs failed or were canceled: '600 3600';
--          below 0 for ever; and behind them after how many its jobs are given up if they still wait: '600 - 60'
-- ARGV[12] description, JSON
-- ARGV[13] when the jobs are due: '' now, '+5' in so many seconds, else seconds since the epoch
-- ARGV[14] what jobs wait for, a line for neighbours that wait for the same: see `depending.lua`
-- ARGV[15] '' or the batch for whose jobs of the same index they wait
-- ARGV[16] number of functions
-- ARGV[17] number of fields of calls
-- ARGV[18] number of fields that the same transaction has written in bulk
-- ARGV[19...] digest and record of each function (the record empty where it is known to be stored),
--          then field and record of each block or large call, then the names of those in bulk
-- Returns  {'ok', total} | {'taken'} | {'gone'}: deleted or expired | {'canceled', reason} | {'gap', total} |
--          {'code', digest}: send its record | {'unknown', what it would wait for}: is not there any more
-- include: keys, clock, runs, counters, opening, code, fair_share, ending, reviving, schedule, deferred,
--          depending, following, giving_up, resolving
local id, token, first, number, is_last, at_front, name, environment, per_block, weight, result_ttl, description,
  due, dependencies, follows, functions, fields, bulk = unpack(ARGV, 1, 18)
local open = tonumber(is_last) or 0
first, number, is_last, at_front = tonumber(first), tonumber(number), is_last ~= '', at_front == '1'
functions, fields, bulk = tonumber(functions), tonumber(fields), tonumber(bulk)
local key = batch_key(id)

local total, token_before, is_canceled, ended_at, known, reason, is_submitting = unpack(redis.call('HMGET', key,
  'total', 'token', 'is_canceled', 'ended_at', 'functions', 'reason', 'is_submitting'))
total = tonumber(total)

local function refuse(answer, detail)
  for i = 19 + 2 * (functions + fields), #ARGV do
    redis.call('HDEL', key .. ':calls:bulk', token .. ':' .. ARGV[i])
  end
  return { answer, detail }
end

if total and token_before ~= token then return refuse('taken') end
if is_canceled then return refuse('canceled', reason or '') end
if not total and (first > 0 or redis.call('GET', key .. ':deleted') == token) then return refuse('gone') end
if total and (total > first or (number == 0 and not (is_last and is_submitting))) then
  if total < first + number then return refuse('gap', total) end
  local ttl = redis.call('TTL', key)
  if bulk > 0 and ttl > 0 then redis.call('EXPIRE', key .. ':calls:bulk', ttl) end
  return { 'ok', total }
end
if total and total < first then return refuse('gap', total) end

for i = 0, functions - 1 do
  local digest, record = ARGV[19 + 2 * i], ARGV[20 + 2 * i]
  if record == '' and redis.call('EXISTS', prefix .. 'code:' .. digest) == 0 then return refuse('code', digest) end
end

local groups, missing = read_dependencies(dependencies)
if missing then return refuse('unknown', missing) end
if follows ~= '' and redis.call('EXISTS', batch_key(follows)) == 0 then return refuse('unknown', follows) end

if not total then
  open_batch(id, token, name, environment, per_block, weight, result_ttl, description, now_text())
  if not is_last then redis.call('HSET', key, 'is_submitting', 1) end
  close_some(2)
  if open > 1 then
    redis.call('HSET', key, 'is_open', 1)
    redis.call('ZADD', prefix .. 'open', math.floor(now()) + open, id)
  end
elseif ended_at then
  revive(id)
end

known = known or ''
local added = {}
for i = 0, functions - 1 do
  local digest, record = ARGV[19 + 2 * i], ARGV[20 + 2 * i]
  if record ~= '' then redis.call('SETNX', prefix .. 'code:' .. digest, record) end
  if not string.find(known, digest, 1, true) then
    known = known .. digest .. ' '
    added[#added + 1] = digest
  end
end
if #added > 0 then
  redis.call('HSET', key, 'functions', known)
  link_code(id, table.concat(added, ' '))
end

local position = 19 + 2 * functions
for i = position, position + 2 * fields - 1, 2 do
  if string.sub(ARGV[i], 1, 1) ~= 'b' then redis.call('HSET', key, 'has_large', 1) end
  redis.call('HSET', key .. ':calls', ARGV[i], ARGV[i + 1])
end
if bulk > 0 then redis.call('HSET', key, 'has_bulk', 1) end
for i = position + 2 * fields, #ARGV do
  if string.sub(ARGV[i], 1, 1) ~= 'b' then redis.call('HSET', key, 'has_large', 1) end
end

local at = now()
due = due ~= '' and (string.sub(due, 1, 1) == '+' and at or 0) + tonumber(due) or at
if due <= at then due = nil end
local queue = queue_key(name, environment)

local ttl = string.match(result_ttl, ' %S+ (%S+)$')

local function schedule_or_queue(start, stop)
  if start >= stop then return end
  if ttl then give_up_at(key, id, queue, start, stop, (due or at) + tonumber(ttl)) end
  count(key, queue, due and 'scheduled' or 'queued', stop - start)
  if due then
    schedule(key, id, queue, start, stop, due)
  elseif at_front then
    redis.call('LPUSH', key .. ':queued', write_run(start, stop))
  else
    push_back(key, { { start, stop } })
  end
end

if number > 0 then redis.call('HINCRBY', key, 'total', number) end
if number > 0 and follows ~= '' then
  redis.call('HSET', key, 'follows', follows, 'waits_for', follows .. ':*')
  redis.call('HSET', batch_key(follows), 'has_dependents', 1)
  redis.call('SADD', batch_key(follows) .. ':followers', id)
  count(key, queue, 'deferred', number)
  defer(key, first, first + number)
  catch_up(id, follows, first, first + number)
else
  local position = first
  for _, group in ipairs(groups) do
    if defer_group(id, group, due and string.format('%.3f', due) or '') then
      schedule_or_queue(position, group.start)
      count(key, queue, 'deferred', group.stop - group.start)
      position = group.stop
    end
  end
  schedule_or_queue(position, first + number)
end

if is_last then
  redis.call('HDEL', key, 'is_submitting')
  redis.call('ZREM', prefix .. 'submitting', id)
else
  redis.call('ZINCRBY', prefix .. 'submitting', 1, id)
end
make_ready(id, at_front)
check_end(id)
if dependencies ~= '' or follows ~= '' then resolve() end
return { 'ok', first + number }
