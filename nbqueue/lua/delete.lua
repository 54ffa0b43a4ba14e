-- Removes a batch and all that belongs to it. What of it runs ends unrecorded.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
local id = ARGV[1]
local key = batch_key(id)
local h = redis.call('HMGET', key, 'functions', 'result_ttl')
redis.call('ZREM', prefix .. 'batches', id)
redis.call('ZREM', prefix .. 'submitting', id)
if redis.call('EXISTS', key) == 0 then return -1 end
cancel_waiting(id)
order_workers(id, 'cancel ' .. id)
tell(id, 'gone')
for digest in string.gmatch(h[1] or '', '%x+') do
  local code = prefix .. 'code:' .. digest
  redis.call('SREM', code .. ':batches', id)
  if redis.call('EXISTS', code .. ':batches') == 0 and redis.call('TTL', code) < 0 then redis.call('UNLINK', code) end
end
for _, part in ipairs(batch_parts) do redis.call('UNLINK', key .. part) end
return 1
