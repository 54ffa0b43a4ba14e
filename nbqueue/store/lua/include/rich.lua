-- Takes away rich output of a job, from a position on.
local function drop_rich(key, index, first, most)
  local freed, fields = 0, {}
  for position = first, most - 1 do
    local size = redis.call('HSTRLEN', key .. ':rich', index .. ':' .. position)
    if size > 0 then
      freed = freed + size
      fields[#fields + 1] = index .. ':' .. position
    end
  end
  if #fields == 0 then return end
  redis.call('HDEL', key .. ':rich', unpack(fields))
  redis.call('HINCRBY', key, 'rich_bytes', -freed)
end
