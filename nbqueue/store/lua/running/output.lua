-- Keeps what jobs of a lease have printed, beside the newest of what others of the batch have.
-- Sent twice it acts once: it carries a number. Who has lost the lease cannot write.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  batch
-- ARGV[4]  number of this request, greater than all before of this worker
-- ARGV[5]  entries of the batch at most
-- ARGV[6]  number of ids
-- ARGV[7]  number of entries
-- ARGV[8...] ids of entries that are replaced, then of each new one "index attempt at", the number of its parts, and
--          the stream and the text of each
-- Returns  {'ok', id, ...}, an id '' where the job is not in the lease (any more); and where nothing was written
--          {'lost'}: the lease is not this worker's, {'done'} before, or {'gone'}: no such batch
-- include: keys, leases
local worker, number, id, sequence = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local most, replaced, entries = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local held = redis.call('HGET', worker_key(worker) .. ':leases', number)
if not held then return { 'lost' } end
local lease = read_lease(held)
if lease.batch ~= id then return { 'lost' } end
if tonumber(redis.call('HGET', worker_key(worker), 'printed') or '0') >= sequence then return { 'done' } end
local key = batch_key(id)
if redis.call('EXISTS', key) == 0 then return { 'gone' } end
redis.call('HSET', worker_key(worker), 'printed', sequence)
redis.call('HSETNX', key, 'has_output', 1)

local out = key .. ':output'
local position = 8
for i = position, position + replaced - 1 do redis.call('XDEL', out, ARGV[i]) end
position = position + replaced
local answer = { 'ok' }
for _ = 1, entries do
  local head, last = ARGV[position], position + 1 + 2 * tonumber(ARGV[position + 1])
  local index = tonumber(string.match(head, '^%d+'))
  if lease.start <= index and index < lease.stop then
    answer[#answer + 1] = redis.call('XADD', out, 'MAXLEN', most, '*', 'job', head, unpack(ARGV, position + 2, last))
  else
    answer[#answer + 1] = ''
  end
  position = last + 1
end
return answer
