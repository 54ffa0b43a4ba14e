-- Forgets batches that have expired, some at a time: what they counted is counted no longer.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  how many at most
-- Returns  how many; 0 too where nothing can be written
-- include: registry
local n = forget_expired(ARGV[1])
return n
