-- Reads the call of one job.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index
-- Returns  {} if there is no such batch, or {per_block, record of its block or '', its own record or '',
--          token if some calls are in bulk, else '', record of the function that it runs with if it is not its
--          call's, else ''}
-- include: keys, mending
local key = batch_key(ARGV[1])
local per_block, has_bulk, token = unpack(redis.call('HMGET', key, 'per_block', 'has_bulk', 'token'))
if not per_block then return {} end
per_block = tonumber(per_block)
local index = tonumber(ARGV[2])
local records = redis.call('HMGET', key .. ':calls', 'b' .. math.floor(index / per_block), index)
return { per_block, records[1] or '', records[2] or '', has_bulk and token or '',
  mended_record(key, ARGV[2]) }
