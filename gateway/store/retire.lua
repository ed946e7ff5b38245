-- Revokes a key that was replaced and fell silent.
--
-- KEYS[1]  {prefix}:key:{sha256}
-- ARGV[1]  the key's id
-- ARGV[2]  the time, ISO 8601 UTC
-- Returns 1, or 0 when the record is another by now, or says so already.

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] or not redis.call('HGET', KEYS[1], 'silent_for') then
  return 0
end
return redis.call('HSETNX', KEYS[1], 'revoked_at', ARGV[2])
