-- Puts back a token that was taken by a worker with no free child.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  environment
-- ARGV[2...] queues
-- Returns  1
-- include: keys, waking
for i = 2, #ARGV do
  wake_if_any(queue_key(ARGV[i], ARGV[1]))
end
return 1
