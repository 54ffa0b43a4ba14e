-- Removes a worker, and takes its leases back: what a dead worker held is suspect.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  worker
-- ARGV[2]  the beat at which it was seen standing still; '' from the worker itself, when it leaves
-- ARGV[3]  how it died, in words; '' if it left
-- Returns  number of leases that were taken back, or -1 if it has beaten since or is not there
-- include: keys, leases, charges, taking_back, parking
local worker, beat, death = ARGV[1], ARGV[2], ARGV[3]
local score = redis.call('ZSCORE', prefix .. 'workers', worker)
if not score or (beat ~= '' and tonumber(score) ~= tonumber(beat)) then return -1 end
local key = worker_key(worker)
local held = redis.call('HGETALL', key .. ':leases')
local unheard = handed_to(worker)
unpark(worker)
redis.call('DEL', key .. ':leases', key .. ':orders', key .. ':handed', key)
redis.call('ZREM', prefix .. 'workers', worker)
for i = 1, #held, 2 do
  local lease = read_lease(held[i + 1])
  local batch = batch_key(lease.batch)
  local name, environment, weight = unpack(redis.call('HMGET', batch, 'queue', 'environment', 'weight'))
  if name then
    charge(lease.batch, batch, queue_key(name, environment), weight, -(lease.stop - lease.start) * lease.cost)
    if held[i] == unheard then
      give_back(lease.batch, lease.start, lease.stop, lease.kind)
    elseif death ~= '' and (lease.kind ~= '' or lease.stop - lease.start == 1) then
      after_death(lease.batch, lease.start, death)
    else
      give_back(lease.batch, lease.start, lease.stop, death ~= '' and 's' or lease.kind)
    end
  end
end
return #held / 2
