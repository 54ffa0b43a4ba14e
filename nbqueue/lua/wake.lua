-- Puts back a token that was taken by a worker with no free child.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  environment
-- ARGV[2...] queues
-- Returns  1
for i = 2, #ARGV do
  local queue = queue_key(ARGV[i], ARGV[1])
  if redis.call('EXISTS', queue .. ':ready') == 1 then wake(queue) end
end
return 1
