-- Removes a batch and all that belongs to it. What of it runs ends unrecorded.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
-- include: keys, parts, orders, counters, canceling, registry, code, hints, settled, resolving
local id = ARGV[1]
local key = batch_key(id)
redis.call('ZREM', prefix .. 'submitting', id)
if redis.call('EXISTS', key) == 0 then
  forget_expired_batch(id)
  return -1
end
cancel_waiting(id)
cancel_running(id)
tell(id, 'gone')
note_settled(id, -1, 0, 'ended')
for _, follower in ipairs(redis.call('SMEMBERS', key .. ':followers')) do
  redis.call('RPUSH', prefix .. 'settled', follower .. ' 0 9007199254740992 fails ' .. id .. ' *')
end
local name, environment, functions, token, finished, failed, canceled = unpack(redis.call('HMGET', key, 'queue',
  'environment', 'functions', 'token', 'finished', 'failed', 'canceled'))
count(key, queue_key(name, environment), 'started', 0 - redis.call('HGET', key, 'started'))
unregister_batch(id, name, environment, finished, failed, canceled)
redis.call('ZREM', queue_key(name, environment) .. ':ttl', id)
unlink_code(id, functions or '', 0)
for _, part in ipairs(parts_of_any()) do redis.call('UNLINK', key .. part) end
-- A submission that is sent again does not make it anew.
redis.call('SET', key .. ':deleted', token, 'EX', 600)
resolve()
return 1
