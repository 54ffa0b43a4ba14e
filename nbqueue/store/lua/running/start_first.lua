-- Decides who starts the first worker of a queue: one caller, while nobody serves it and nobody else is starting one.
-- A worker may have come since the caller looked. Sent twice it answers the same.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  environment
-- ARGV[3]  token of the caller
-- ARGV[4]  seconds for which nobody else starts one
-- Returns  1 if the caller is the one, else 0
-- include: keys
local queue, environment, token, seconds = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
for _, worker in ipairs(redis.call('ZRANGE', prefix .. 'workers', 0, -1)) do
  local queues, where = unpack(redis.call('HMGET', worker_key(worker), 'queues', 'environment'))
  if where == environment then
    for name in string.gmatch(queues or '', '%S+') do
      if name == queue then return 0 end
    end
  end
end
local key = queue_key(queue, environment) .. ':starting'
if redis.call('SET', key, token, 'NX', 'EX', seconds) then return 1 end
if redis.call('GET', key) == token then return 1 end
return 0
