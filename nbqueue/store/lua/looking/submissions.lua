-- Lists the batches that are being submitted.
-- KEYS[1]  prefix of all keys
-- Returns  {batch, number of touches of its submitter, ...}
-- include: keys
local key = prefix .. 'submitting'
return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
