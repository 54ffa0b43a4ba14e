-- Lets no job of a queue start, in any environment; what runs ends.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- Returns  1
-- include: keys
redis.call('SET', prefix .. 'queue:' .. ARGV[1] .. ':paused', '1')
return 1
