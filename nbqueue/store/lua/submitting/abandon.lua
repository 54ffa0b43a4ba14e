-- Closes and cancels a batch whose submitter died half-way.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  the number of touches at which its submitter was seen standing still; '' from the submitter itself
-- ARGV[3]  the reason, in words; %d stands for the number of jobs that were submitted
-- Returns  number of jobs that were submitted, or -1 if the submitter goes on or is done
-- include: keys, orders, canceling, ending, hints, resolving
local id, touches, reason = ARGV[1], ARGV[2], ARGV[3]
local key = batch_key(id)
local score = redis.call('ZSCORE', prefix .. 'submitting', id)
if not score or (touches ~= '' and tonumber(score) ~= tonumber(touches)) then return -1 end
redis.call('ZREM', prefix .. 'submitting', id)
local total = redis.call('HGET', key, 'total')
if not total then return -1 end
redis.call('HDEL', key, 'is_submitting')
redis.call('HSET', key, 'is_canceled', 1, 'reason', string.format(reason, total))
cancel_waiting(id)
cancel_running(id)
tell(id, 'changed')
check_end(id)
resolve()
return tonumber(total)
