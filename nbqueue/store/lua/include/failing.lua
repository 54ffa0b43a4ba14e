-- Jobs that fail without having run.
-- include: keys, clock, counters, ending, hints, settled, deciding

-- A job fails with a reason in plain text, which nobody unpickles. `failure`: its `state` before, `kind` and `message`;
-- where it has failed because of another job: the batch of that as `because`, for which it is counted among equal ones,
-- and `root`, which failed first.
local function record_failure(id, index, failure)
  local key = batch_key(id)
  local summary = cjson.encode({ type = failure.kind, message = failure.message, example = index,
    traceback = failure.message })
  local digest = string.sub(redis.sha1hex(failure.kind .. (failure.because or failure.message)), 1, 12)
  redis.call('HSET', key .. ':outcomes', index, '!' .. cjson.encode({ type = failure.kind, message = failure.message,
    at = now(), root = failure.root, because = failure.because }))
  redis.call('HSET', key .. (failure.because and ':broken' or ':failed'), index, digest)
  redis.call('HSETNX', key .. ':errors', digest, summary)
  redis.call('HINCRBY', key .. ':errors', 'n:' .. digest, 1)
  move(id, failure.state, 'failed', 1)
  redis.call('RPUSH', key .. ':ended', tostring(index))
end

local function fail_in_words(id, index, kind, reason)
  if redis.call('EXISTS', batch_key(id)) == 0 then return end
  record_failure(id, index, { state = 'started', kind = kind, message = reason })
  forget_decided(batch_key(id), index, index + 1)
  note_settled(id, index, index + 1, 'ended')
  tell(id, 'changed')
  check_end(id)
end
