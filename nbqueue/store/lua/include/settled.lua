-- What has ended and others wait for: a work list, of which whoever comes by does some (`resolving.lua`). An entry is
-- "batch start stop what"; start -1 means the batch as a whole.
-- include: keys

-- `what`: 'ended', 'canceled', 'passed': canceled, and others go on all the same, 'again': it runs again.
local function note_settled(id, start, stop, what)
  if redis.call('HEXISTS', batch_key(id), 'has_dependents') == 1 then
    redis.call('RPUSH', prefix .. 'settled', string.format('%s %d %d %s', id, start, stop, what))
  end
end
