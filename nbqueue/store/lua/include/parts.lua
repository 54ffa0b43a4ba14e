-- The keys of a batch.

local function parts_of_any()
  return { '', ':calls', ':calls:bulk', ':queued', ':canceled', ':cancels', ':passes', ':outcomes', ':outcomes:bulk',
    ':ended', ':scheduled', ':deferred', ':unmet', ':groups', ':failed', ':broken', ':failed_dependents', ':followers',
    ':errors', ':attempts', ':tries', ':deaths', ':output', ':shown', ':rich', ':meta', ':forgotten', ':mended',
    ':callbacks', ':ttl', ':decided' }
end

-- Those of one that has ended: few, where all went well.
local function parts_at_end(key)
  local failed, canceled, is_retried, has_attempts, has_bulk, has_bulk_outcomes, has_output, has_meta, has_forgotten,
    has_dependents, has_callback_errors = unpack(redis.call('HMGET', key, 'failed', 'canceled', 'is_retried',
      'has_attempts', 'has_bulk', 'has_bulk_outcomes', 'has_output', 'has_meta', 'has_forgotten', 'has_dependents',
      'has_callback_errors'))
  if failed == '0' and canceled == '0' and not (is_retried or has_attempts or has_bulk or has_bulk_outcomes or
    has_output or has_meta or has_forgotten or has_dependents or has_callback_errors) then
    return { '', ':calls', ':outcomes', ':ended' }
  end
  return parts_of_any()
end
