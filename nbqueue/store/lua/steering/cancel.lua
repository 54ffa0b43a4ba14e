-- Cancels the jobs of a batch that have not ended: those that wait at once, those that run by an order to their
-- workers.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  '1' to cancel only what is queued, and let what runs end, and what waits for a time or for others wait
-- ARGV[3]  the reason, in words
-- Returns  number of jobs that are canceled or being canceled, or -1 if there is no such batch
-- include: keys, orders, canceling, ending, hints, resolving
local id, only_waiting, reason = ARGV[1], ARGV[2] == '1', ARGV[3]
local key = batch_key(id)
local total, started, ended_at = unpack(redis.call('HMGET', key, 'total', 'started', 'ended_at'))
if not total then return -1 end
if ended_at then return 0 end
local n = cancel_waiting(id, only_waiting)
if not only_waiting then
  redis.call('HDEL', key, 'is_submitting')
  redis.call('ZREM', prefix .. 'submitting', id)
  redis.call('HSET', key, 'is_canceled', 1, 'reason', reason)
  if tonumber(started) > 0 then
    cancel_running(id)
    n = n + tonumber(started)
  end
end
tell(id, 'changed')
check_end(id)
resolve()
return n
