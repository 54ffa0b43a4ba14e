-- Lists batches, the newest first.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  how many at most
-- ARGV[2]  queue, or '' for all
-- ARGV[3]  where the page before ended, or ''
-- Returns  {where this page ended, or '' if it is the last one, batch, {field, value, ...}, ...}
-- include: keys, listing
local index = ARGV[2] == '' and 'batches' or 'queue:' .. ARGV[2] .. ':batches'
return page(prefix .. index, tonumber(ARGV[1]), ARGV[3])
