-- Lists the batches of a queue that have jobs in one state, the oldest first.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  queue
-- ARGV[2]  state
-- ARGV[3]  batches that are looked at, at most
-- ARGV[4]  where the page before ended, or ''
-- Returns  {where this page ended, or '' if it is the last one, batch, number of its jobs in that state, its tag in the
--          fair share or '' if nothing can be taken from it, ...}
-- include: keys
local name, state, most, after = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local has_ended = state == 'finished' or state == 'failed' or state == 'canceled'
local index = prefix .. 'queue:' .. name .. (has_ended and ':batches' or ':unfinished')
local first = 0
if after ~= '' then
  local at, id = string.match(after, '^(%S+) (.*)$')
  local rank = redis.call('ZRANK', index, id)
  first = rank and rank + 1 or redis.call('ZCOUNT', index, '-inf', at)
end
local found = redis.call('ZRANGE', index, first, first + most - 1, 'WITHSCORES')
local answer = { '' }
for i = 1, #found, 2 do
  local n, environment = unpack(redis.call('HMGET', batch_key(found[i]), state, 'environment'))
  if n and tonumber(n) > 0 then
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = tonumber(n)
    answer[#answer + 1] = redis.call('ZSCORE', queue_key(name, environment) .. ':ready', found[i]) or ''
  end
end
if #found == 2 * most then answer[1] = found[#found] .. ' ' .. found[#found - 1] end
return answer
