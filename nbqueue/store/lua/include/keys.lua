-- Names of keys; what they hold: see keys.py.
local prefix = KEYS[1]

local function batch_key(id) return prefix .. 'batch:' .. id end
local function worker_key(id) return prefix .. 'worker:' .. id end
local function queue_key(queue, environment) return prefix .. 'queue:' .. queue .. ':' .. environment end
