-- Pages of an index of batches.
-- include: keys, registry

-- The newest first: at most `most`, after the one at which the page before ended, with a place for the next page to
-- begin after, or '' if there is none. What has expired is forgotten where it is met, 200 in a page.
local function page(index, most, after)
  local first = 0
  if after ~= '' then
    local at, id = string.match(after, '^(%S+) (.*)$')
    local rank = redis.call('ZREVRANK', index, id)
    first = rank and rank + 1 or redis.call('ZCOUNT', index, '(' .. at, '+inf')
  end
  local found = redis.call('ZREVRANGE', index, first, first + most + 200 - 1, 'WITHSCORES')
  local answer, n, place = { '' }, 0, nil
  for i = 1, #found, 2 do
    local id = found[i]
    local h = redis.call('HGETALL', batch_key(id))
    if #h > 0 then
      answer[#answer + 1] = id
      answer[#answer + 1] = h
      n = n + 1
    else
      forget_expired_batch(id)
    end
    place = i
    if n == most then break end
  end
  if place and (place + 1 < #found or #found == 2 * (most + 200)) then
    answer[1] = found[place + 1] .. ' ' .. found[place]
  end
  return answer
end
