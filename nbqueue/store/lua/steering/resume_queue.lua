-- Lets the jobs of a paused queue start again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2...] the environments whose workers are woken
-- Returns  1
-- include: keys, waking
redis.call('DEL', prefix .. 'queue:' .. ARGV[1] .. ':paused')
for i = 2, #ARGV do
  wake_if_any(queue_key(ARGV[1], ARGV[i]))
end
return 1
