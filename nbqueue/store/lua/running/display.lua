-- Keeps the rich output of one display of a job, or takes away what the job has cleared.
-- Sent twice it acts once: it tells what shall be there. Who has lost the lease cannot write.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  number of the lease
-- ARGV[3]  batch
-- ARGV[4]  index
-- ARGV[5]  the display's position among those of the job, from 0
-- ARGV[6]  displays of a job at most
-- ARGV[7]  bytes of the batch at most
-- ARGV[8]  attempt
-- ARGV[9]  its content, as JSON; '': this one and all after it go
-- Returns  'ok'; and where nothing was written 'full': the batch has too much, 'lost': the lease is not this worker's,
--          or the job not in it, or 'gone': no such batch
-- include: keys, leases, rich
local worker, number, id, index, position = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.call('HGET', worker_key(worker) .. ':leases', number)
local lease = held and read_lease(held)
if not lease or lease.batch ~= id or index < lease.start or lease.stop <= index then return 'lost' end
local key = batch_key(id)
if redis.call('EXISTS', key) == 0 then return 'gone' end
if ARGV[9] == '' then
  drop_rich(key, ARGV[4], position, tonumber(ARGV[6]))
  return 'ok'
end
local field, content = ARGV[4] .. ':' .. position, ARGV[8] .. ' ' .. ARGV[9]
local grows = #content - redis.call('HSTRLEN', key .. ':rich', field)
if tonumber(redis.call('HGET', key, 'rich_bytes') or '0') + grows > tonumber(ARGV[7]) then
  redis.call('HSET', key, 'rich_full', 1)
  return 'full'
end
redis.call('HINCRBY', key, 'rich_bytes', grows)
redis.call('HSETNX', key, 'has_output', 1)
redis.call('HSET', key .. ':rich', field, content)
return 'ok'
