-- Removes a batch and all that belongs to it. What of it runs ends unrecorded.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
local id = ARGV[1]
local key = batch_key(id)
local h = redis.call('HMGET', key, 'functions', 'token')
redis.call('ZREM', prefix .. 'batches', id)
redis.call('ZREM', prefix .. 'submitting', id)
if redis.call('EXISTS', key) == 0 then return -1 end
cancel_waiting(id)
cancel_running(id)
tell(id, 'gone')
unlink_code(id, h[1] or '', 0)
for _, part in ipairs(batch_parts) do redis.call('UNLINK', key .. part) end
-- A submission that is sent again does not make it anew.
redis.call('SET', key .. ':deleted', h[2], 'EX', 600)
return 1
