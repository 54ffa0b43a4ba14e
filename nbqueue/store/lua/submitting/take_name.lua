-- Gives a name of the user's to the job of a batch that is about to be submitted. It is free if nobody has it, or if
-- the job that had it has ended.
-- Sent twice it acts once: whose name it is may take it again.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  name
-- ARGV[2]  batch
-- ARGV[3]  1 if a job that has ended keeps its name
-- ARGV[4]  seconds for which the name is kept
-- ARGV[5]  seconds for which it is kept for a batch that is not there yet
-- Returns  the batch that has the name now
-- include: keys, clock
local key = prefix .. 'named:' .. ARGV[1]
local holder, at = unpack(redis.call('HMGET', key, 'batch', 'at'))
if holder and holder ~= ARGV[2] then
  local of_holder = batch_key(holder)
  local total, ended_at = unpack(redis.call('HMGET', of_holder, 'total', 'ended_at'))
  if total then
    local is_kept = ARGV[3] == '1' and redis.call('SISMEMBER', of_holder .. ':forgotten', '0') == 0
    if not ended_at or is_kept then return holder end
  elseif now() - at < tonumber(ARGV[5]) and redis.call('EXISTS', of_holder .. ':deleted') == 0 then
    return holder
  end
end
redis.call('HSET', key, 'batch', ARGV[2], 'at', string.format('%.6f', now()))
redis.call('EXPIRE', key, ARGV[4])
return ARGV[2]
