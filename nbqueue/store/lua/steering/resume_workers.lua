-- Lets workers take jobs again.
-- KEYS[1]  prefix of all keys
-- ARGV[1...] queue and environment, of each whose workers are woken
-- Returns  1 if they were suspended, else 0
-- include: keys, waking
local was = redis.call('DEL', prefix .. 'suspended')
for i = 1, #ARGV, 2 do wake_if_any(queue_key(ARGV[i], ARGV[i + 1])) end
return was
