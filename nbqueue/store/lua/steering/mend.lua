-- Gives a batch one more function, for those of its jobs that `retry` has run with it.
-- Sent twice it acts once: the same record has the same number.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  signed record that names the function and what goes with it
-- ARGV[3...] digest and record of each of these (the record empty where it is known to be stored)
-- Returns  {'ok', number of the function} | {'gone'}: no such batch | {'code', digest}: send its record
-- include: keys, code
local id, record = ARGV[1], ARGV[2]
local key = batch_key(id)
local total, ended_at, known, count = unpack(redis.call('HMGET', key, 'total', 'ended_at', 'functions', 'mended'))
if not total then return { 'gone' } end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' and redis.call('EXISTS', prefix .. 'code:' .. ARGV[i]) == 0 then return { 'code', ARGV[i] } end
end

local added = {}
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('SETNX', prefix .. 'code:' .. ARGV[i], ARGV[i + 1]) end
  if not string.find(known or '', ARGV[i], 1, true) then
    known = (known or '') .. ARGV[i] .. ' '
    added[#added + 1] = ARGV[i]
  end
end
if #added > 0 then
  redis.call('HSET', key, 'functions', known)
  link_code(id, table.concat(added, ' '))
end
count = tonumber(count or '0')
local number
for i = 1, count do
  if redis.call('HGET', key .. ':mended', 'f' .. i) == record then number = i end
end
if not number then
  number = count + 1
  redis.call('HSET', key, 'mended', number)
  redis.call('HSET', key .. ':mended', 'f' .. number, record)
end
local ttl = redis.call('TTL', key)
if ended_at and ttl >= 0 then
  -- It expires with the batch, unless jobs of that run again.
  redis.call('EXPIRE', key .. ':mended', ttl)
  unlink_code(id, table.concat(added, ' '), ttl)
end
return { 'ok', number }
