-- Keeps a Jupyter message that a job has put out, and drops those that it makes superfluous.
-- Sent twice it acts once: a message has its number. Who has lost the lease cannot write. A new start of the job begins
-- with an empty stream, and says so where there was an earlier one: with a `clear_output` as message 0.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  batch
-- ARGV[4]  number of the message, from 1; 0 stands for the start itself
-- ARGV[5]  messages before this number are dropped
-- ARGV[6]  number of one more that is dropped, or 0
-- ARGV[7]  messages at most
-- ARGV[8]  its type
-- ARGV[9]  its content, as JSON
-- Returns  'ok'; and where nothing was written 'lost': the lease is not this worker's, 'done' before, or 'gone': no
--          such batch
-- include: keys, clock, leases
local worker, number, id, sequence = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local held = redis.call('HGET', worker_key(worker) .. ':leases', number)
if not held or read_lease(held).batch ~= id then return 'lost' end
local key = batch_key(id)
local shown = key .. ':shown'
local shown_by, base, last = unpack(redis.call('HMGET', key, 'shown_by', 'shown_as', 'shown'))
if redis.call('EXISTS', key) == 0 then return 'gone' end
local by = worker .. ' ' .. number
local had = 0
if shown_by ~= by then
  base = string.format('%.0f', math.max(math.floor(now() * 1000), tonumber(base or '0') + 1))
  redis.call('HSET', key, 'shown_by', by, 'shown_as', base, 'shown', 0, 'has_output', 1)
  had = redis.call('UNLINK', shown)
elseif tonumber(last) >= sequence then
  return 'done'
end
if sequence == 0 and had == 0 then return 'ok' end
redis.call('HSET', key, 'shown', sequence)
if ARGV[5] ~= '0' then redis.call('XTRIM', shown, 'MINID', base .. '-' .. ARGV[5]) end
if ARGV[6] ~= '0' then redis.call('XDEL', shown, base .. '-' .. ARGV[6]) end
redis.call('XADD', shown, 'MAXLEN', ARGV[7], base .. '-' .. sequence, ARGV[8], ARGV[9])
return 'ok'
