-- What is needed to know of a schedule to fire it.
-- include: keys, clock

local function schedule_key(queue, name) return prefix .. 'schedules:' .. queue .. ':' .. name end

-- All its fields, and of the batch of its last run: the id, how many jobs it has, 1 if it takes no more (it is gone or
-- canceled, or the schedule was replaced), 1 if some have not ended, when it ended, when it was made; then the time.
-- Nil if there is no such schedule.
local function read_schedule(queue, name)
  local fields = redis.call('HGETALL', schedule_key(queue, name))
  if #fields == 0 then return nil end
  local batches, token = unpack(redis.call('HMGET', schedule_key(queue, name), 'batches', 'token'))
  local id = string.match(batches or '', '^%S+') or ''
  local h = redis.call('HMGET', batch_key(id), 'token', 'total', 'finished', 'failed', 'canceled', 'is_canceled',
    'ended_at', 'submitted_at')
  local total, ended = tonumber(h[2]) or 0, (tonumber(h[3]) or 0) + (tonumber(h[4]) or 0) + (tonumber(h[5]) or 0)
  return { fields, id, total, (h[6] or h[1] ~= token) and 1 or 0, ended < total and 1 or 0, h[7] or '', h[8] or '',
    string.format('%.6f', now()) }
end
