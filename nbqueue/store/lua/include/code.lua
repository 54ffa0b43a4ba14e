-- How long functions are kept.
-- include: keys

local function link_code(id, functions)
  for digest in string.gmatch(functions, '%x+') do
    local code = prefix .. 'code:' .. digest
    redis.call('SADD', code .. ':batches', id)
    local left = redis.call('TTL', code)
    if left > 0 then
      -- Batches that have ended may be run again until then.
      if left > redis.call('TTL', code .. ':ended') then redis.call('SET', code .. ':ended', '1', 'EX', left) end
      redis.call('PERSIST', code)
    end
  end
end

-- What nobody needs any more stays as long as the results of the last one that did: it may be run again.
local function unlink_code(id, functions, ttl)
  for digest in string.gmatch(functions, '%x+') do
    local code = prefix .. 'code:' .. digest
    redis.call('SREM', code .. ':batches', id)
    if redis.call('EXISTS', code .. ':batches') == 0 then
      local keep = math.max(ttl, redis.call('TTL', code), redis.call('TTL', code .. ':ended'))
      if keep > 0 then redis.call('EXPIRE', code, keep) else redis.call('UNLINK', code) end
    elseif ttl > math.max(0, redis.call('TTL', code .. ':ended')) then
      redis.call('SET', code .. ':ended', '1', 'EX', ttl)
    end
  end
end
