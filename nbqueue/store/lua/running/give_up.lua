-- Gives up the jobs of some queues that have waited for longer than they shall: about 1,000 of each.
-- Sent twice it does what is left to do.
-- KEYS[1]  prefix of all keys
-- ARGV[1]  environment
-- ARGV[2...] queues
-- Returns  1 if there is more, or 0
-- include: keys, giving_up
local is_more = 0
for i = 2, #ARGV do
  if give_up_overdue(queue_key(ARGV[i], ARGV[1])) then is_more = 1 end
end
return is_more
