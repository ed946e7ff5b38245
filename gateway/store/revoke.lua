-- Revokes a key once; a later call leaves the first time as it is.
--
-- KEYS[1]  {prefix}:key:{sha256}, to which {prefix}:keyid:{id} led
-- ARGV[1]  the key's id
-- ARGV[2]  the time, ISO 8601 UTC
-- Returns 1, or 0 when this is not that key's record.

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return 0
end
redis.call('HSETNX', KEYS[1], 'revoked_at', ARGV[2])
return 1
