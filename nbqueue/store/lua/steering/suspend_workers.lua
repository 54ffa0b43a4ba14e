-- Lets no worker take anything; what runs ends.
-- KEYS[1]  prefix of all keys
-- Returns  1
-- include: keys
redis.call('SET', prefix .. 'suspended', '1')
return 1
