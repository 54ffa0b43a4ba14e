-- Reads the outcomes of neighbouring jobs: those of their blocks, and their own, which win. Some 4 MB at most, with
-- what they point to.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  batch
-- ARGV[2]  index of the first job
-- ARGV[3]  index after the last job
-- Returns  {} if there is no such batch, or {index after the last job that was read, per_block, number of jobs, field,
--          record, ...}
-- include: keys
local id, start, stop = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = batch_key(id)
local per_block, total = unpack(redis.call('HMGET', key, 'per_block', 'total'))
if not per_block then return {} end
per_block, total = tonumber(per_block), tonumber(total)
stop = math.min(stop, total)
local found, bytes = { stop, per_block, total }, 0
local outcomes = key .. ':outcomes'

local function size_of(record)
  if string.sub(record, 1, 1) ~= '@' then return #record end
  return redis.call('HSTRLEN', outcomes .. ':bulk', string.sub(record, 2))
end

local position = start
while position < stop do
  local block = math.floor(position / per_block)
  local last = math.min(stop, (block + 1) * per_block)
  local record = redis.call('HGET', outcomes, 'b' .. block)
  if record then
    found[#found + 1] = 'b' .. block
    found[#found + 1] = record
    bytes = bytes + size_of(record)
  end
  local fields = {}
  for i = position, last - 1 do fields[#fields + 1] = i end
  for i, own in ipairs(redis.call('HMGET', outcomes, unpack(fields))) do
    if own then
      found[#found + 1] = tostring(fields[i])
      found[#found + 1] = own
      bytes = bytes + size_of(own)
      if bytes > 4000000 then
        found[1] = fields[i] + 1
        return found
      end
    end
  end
  position = last
  if bytes > 4000000 then break end
end
found[1] = position
return found
