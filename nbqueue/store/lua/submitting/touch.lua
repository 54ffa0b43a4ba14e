-- Says that the submitter of a batch is alive, between submissions that are far apart.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  1, or 0 if the batch is not being submitted (any more)
-- include: keys
if redis.call('HEXISTS', batch_key(ARGV[1]), 'is_submitting') == 0 then return 0 end
redis.call('ZINCRBY', prefix .. 'submitting', 1, ARGV[1])
return 1
