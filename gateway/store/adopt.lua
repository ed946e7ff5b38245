-- Takes over a key's record from elsewhere. Field by field the file wins, but for a revocation:
-- one that is here stays.
--
-- KEYS[1]  {prefix}:key:{sha256}
-- ARGV     names and values of fields, `id` and its value first
-- Returns 'new', 'changed', 'same', or 'other': this key has another id here.

local id = redis.call('HGET', KEYS[1], 'id')
if id and id ~= ARGV[2] then
  return 'other'
end
local outcome = id and 'same' or 'new'
for at = 1, #ARGV, 2 do
  local name, value = ARGV[at], ARGV[at + 1]
  local found = redis.call('HGET', KEYS[1], name)
  if found ~= value and not (found and name == 'revoked_at') then
    redis.call('HSET', KEYS[1], name, value)
    outcome = id and 'changed' or 'new'
  end
end
return outcome
