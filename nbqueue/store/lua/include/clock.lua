-- The server's time, in seconds since the epoch.

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- The same as text: to format a number with a fraction takes ten microseconds.
local function now_text()
  local t = redis.call('TIME')
  return string.format('%s.%06d', t[1], t[2])
end
