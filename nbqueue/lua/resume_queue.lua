-- Lets the jobs of a paused queue start again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2...] the environments whose workers are woken
-- Returns  1
redis.call('DEL', prefix .. 'queue:' .. ARGV[1] .. ':paused')
for i = 2, #ARGV do
  local queue = queue_key(ARGV[1], ARGV[i])
  if redis.call('EXISTS', queue .. ':ready') == 1 then wake(queue) end
end
return 1
