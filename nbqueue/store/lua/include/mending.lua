-- Jobs that run with another function than they were submitted with: its number, by index, in `batch:<id>:mended`.

-- Has jobs run with this function of their batch from now on; '' changes nothing.
local function mend(key, start, stop, number)
  if number == '' then return end
  for first = start, stop - 1, 1000 do
    local fields = {}
    for index = first, math.min(first + 1000, stop) - 1 do
      fields[#fields + 1] = index
      fields[#fields + 1] = number
    end
    redis.call('HSET', key .. ':mended', unpack(fields))
  end
end

-- The end of those jobs of a run that have the function of its first one.
local function same_function_upto(key, start, stop)
  local indices = {}
  for index = start, stop - 1 do indices[#indices + 1] = index end
  local numbers = redis.call('HMGET', key .. ':mended', unpack(indices))
  for i, number in ipairs(numbers) do
    if number ~= numbers[1] then return start + i - 1 end
  end
  return stop
end

-- The record of the function that a job runs with, if it is not that of its call; else ''.
local function mended_record(key, index)
  local number = redis.call('HGET', key .. ':mended', index)
  return number and redis.call('HGET', key .. ':mended', 'f' .. number) or ''
end
