-- What plain commands have written: a value, and the pieces of it that follow.

local function drop_bulk(key, name)
  local number = 0
  while redis.call('HDEL', key, number == 0 and name or name .. '+' .. number) == 1 do number = number + 1 end
end
