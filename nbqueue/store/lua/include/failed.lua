-- The jobs of a batch that failed.

-- Some of them, 1,000 or somewhat more if there are so many, with the digests of their errors: {index, digest, ...}.
-- Where one has failed its neighbours are taken with it, so that what is queued again are few runs: a claim takes one.
local function some_failed(key)
  local failed, looked_at = {}, {}
  local cursor = '0'
  repeat
    -- The first thousands of places are empty after some calls: further ones are looked at until there are enough.
    local found = redis.call('HSCAN', key .. ':failed', cursor, 'COUNT', 1000)
    cursor = found[1]
    for i = 1, #found[2], 2 do
      local first = math.floor(tonumber(found[2][i]) / 100) * 100
      if not looked_at[first] and #failed < 2000 then
        looked_at[first] = true
        local indices = {}
        for index = first, first + 99 do indices[#indices + 1] = index end
        for n, digest in ipairs(redis.call('HMGET', key .. ':failed', unpack(indices))) do
          if digest then
            failed[#failed + 1] = tostring(indices[n])
            failed[#failed + 1] = digest
          end
        end
      end
    end
  until cursor == '0' or #failed >= 2000
  return failed
end
