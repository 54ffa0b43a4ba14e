-- Lists the batches of a queue that have jobs to do, or get some, the newest first.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  how many at most
-- ARGV[2]  queue
-- ARGV[3]  where the page before ended, or ''
-- Returns  {where this page ended, or '' if it is the last one, batch, {field, value, ...}, ...}
-- include: keys, listing
local index = 'queue:' .. ARGV[2] .. ':unfinished'
return page(prefix .. index, tonumber(ARGV[1]), ARGV[3])
