-- A run is "10-40": the jobs from 10 to 39. "s10-40" is suspect: a worker died with it.
local function read_run(run)
  local suspect, start, stop = string.match(run, '^(s?)(%d+)%-(%d+)$')
  return tonumber(start), tonumber(stop), suspect
end

local function write_run(start, stop, suspect)
  return string.format('%s%d-%d', suspect or '', start, stop)
end
