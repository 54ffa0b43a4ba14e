-- Reads with which functions jobs of a batch run.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- Returns  {} if there is no such batch, or {digests of all that it needs, index of a job that may run again or '',
--          records of the functions that were given to it since}
-- include: keys, runs
local key = batch_key(ARGV[1])
local functions, total, count = unpack(redis.call('HMGET', key, 'functions', 'total', 'mended'))
if not total then return {} end
local index = redis.call('HRANDFIELD', key .. ':failed')
if not index then
  local run = redis.call('LINDEX', key .. ':canceled', 0)
  index = run and read_run(run) or ''
end
local records = {}
for i = 1, tonumber(count or '0') do records[i] = redis.call('HGET', key .. ':mended', 'f' .. i) end
return { functions or '', index, records }
