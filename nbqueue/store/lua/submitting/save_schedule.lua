-- Keeps a schedule, in the place of one of this name if there is one.
-- Sent twice it acts once: it carries a token.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  name
-- ARGV[3]  token
-- ARGV[4]  environment
-- ARGV[5]  when it is due first, in seconds since the epoch
-- ARGV[6]  its times, as text: one that had the same before stays due when it was
-- ARGV[7]  number of functions
-- ARGV[8...] digest and record of each function (the record empty where it is known to be stored), then further fields
--          and their values
-- Returns  {'ok', the times of the one that was replaced or ''} | {'code', digest}: send its record
-- include: keys, clock, code, firing, waking
local name, title, token, environment, due, times, functions = unpack(ARGV, 1, 7)
local key, link = schedule_key(name, title), '*' .. name .. ':' .. title
local token_before, environment_before, due_before, times_before, known, is_paused = unpack(redis.call('HMGET', key,
  'token', 'environment', 'due', 'times', 'functions', 'is_paused'))
if token_before == token then return { 'ok', '' } end

local position = 8
local last = position + 2 * tonumber(functions) - 1
local needed = {}
for i = position, last, 2 do
  if ARGV[i + 1] == '' and redis.call('EXISTS', prefix .. 'code:' .. ARGV[i]) == 0 then return { 'code', ARGV[i] } end
  needed[#needed + 1] = ARGV[i]
end
for i = position, last, 2 do
  if ARGV[i + 1] ~= '' then redis.call('SETNX', prefix .. 'code:' .. ARGV[i], ARGV[i + 1]) end
end
local all = table.concat(needed, ' ') .. ' '
link_code(link, all)
for digest in string.gmatch(known or '', '%x+') do
  if not string.find(all, digest .. ' ', 1, true) then unlink_code(link, digest, 0) end
end
if times_before == times and not is_paused then due = due_before end
redis.call('HDEL', key, 'is_paused', 'problem', 'at_front', 'overlaps')
redis.call('HSETNX', key, 'runs', 0)
redis.call('HSETNX', key, 'skipped', 0)
redis.call('HSET', key, 'queue', name, 'name', title, 'token', token, 'environment', environment, 'due', due, 'times',
  times, 'functions', all, 'made_at', string.format('%.6f', now()))
for i = last + 1, #ARGV - 1, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('SADD', prefix .. 'schedules', name .. ':' .. title)
if environment_before then redis.call('ZREM', queue_key(name, environment_before) .. ':scheduled', '*' .. title) end
local queue = queue_key(name, environment)
redis.call('ZADD', queue .. ':scheduled', due, '*' .. title)
wake(queue)
return { 'ok', times_before or '' }
