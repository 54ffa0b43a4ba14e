-- Forgets the call and the outcome of one job that has ended, and what it printed.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- ARGV[3]  a record that says that it was deleted
-- ARGV[4]  displays of a job at most
-- Returns  1, or -1 if there is no such batch
-- include: keys, runs, hints, bulk, rich, tries, resolving
local key = batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return -1 end
resolve()  -- those who wait for it learn how it ended
local pointer = string.match(redis.call('HGET', key .. ':outcomes', ARGV[2]) or '', '^@(.+)')
if pointer then drop_bulk(key .. ':outcomes:bulk', pointer) end
redis.call('HSET', key .. ':outcomes', ARGV[2], ARGV[3])
redis.call('SADD', key .. ':forgotten', ARGV[2])
redis.call('HSET', key, 'has_forgotten', 1)
local ttl = redis.call('TTL', key)
if ttl > 0 then
  for _, part in ipairs({ ':outcomes', ':forgotten' }) do redis.call('EXPIRE', key .. part, ttl) end
end
-- What is in neither does not run again.
redis.call('HDEL', key .. ':failed', ARGV[2])
redis.call('HDEL', key .. ':broken', ARGV[2])
redis.call('HDEL', key .. ':meta', ARGV[2])
redis.call('HDEL', key .. ':mended', ARGV[2])
redis.call('HDEL', key .. ':callbacks', ARGV[2])
drop_tries(key, ARGV[2])
local index = tonumber(ARGV[2])
for _, run in ipairs(redis.call('LRANGE', key .. ':canceled', 0, -1)) do
  local start, stop = read_run(run)
  if start <= index and index < stop then
    if start < index then redis.call('LINSERT', key .. ':canceled', 'BEFORE', run, write_run(start, index)) end
    if index + 1 < stop then redis.call('LINSERT', key .. ':canceled', 'AFTER', run, write_run(index + 1, stop)) end
    redis.call('LREM', key .. ':canceled', 1, run)
    break
  end
end
local per_block, token = unpack(redis.call('HMGET', key, 'per_block', 'token'))
local fields = { ARGV[2] }
if tonumber(per_block) == 1 then fields[2] = 'b' .. ARGV[2] end
for _, field in ipairs(fields) do
  redis.call('HDEL', key .. ':calls', field)
  drop_bulk(key .. ':calls:bulk', token .. ':' .. field)
end
if redis.call('HEXISTS', key, 'has_output') == 1 then
  for _, entry in ipairs(redis.call('XRANGE', key .. ':output', '-', '+')) do
    if string.match(entry[2][2], '^%d+') == ARGV[2] then redis.call('XDEL', key .. ':output', entry[1]) end
  end
  drop_rich(key, ARGV[2], 0, tonumber(ARGV[4]))
end
tell(ARGV[1], 'changed')
return 1
