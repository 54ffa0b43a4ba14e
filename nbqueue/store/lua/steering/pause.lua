-- Lets no job of a batch start; what runs ends.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or -1 if there is no such batch
-- include: keys, fair_share, hints
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
not_ready(ARGV[1])
redis.call('HSET', key, 'is_paused', 1)
tell(ARGV[1], 'changed')
return 1
