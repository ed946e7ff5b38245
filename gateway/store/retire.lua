-- Revokes a key that was replaced and fell silent.
--
-- KEYS[1]  {prefix}:key:{sha256}
-- KEYS[2]  {prefix}:used:{key id}, where one script may see both
-- ARGV[1]  the key's id
-- ARGV[2]  the time, ISO 8601 UTC
-- ARGV[3]  the last use that the silence was judged by; '' for none
-- Returns 1, or 0 when the record is another by now, says so already, or there was another use.

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] or not redis.call('HGET', KEYS[1], 'silent_for') then
  return 0
end
if KEYS[2] and (redis.call('HGET', KEYS[2], 'last_used') or '') ~= ARGV[3] then
  return 0
end
return redis.call('HSETNX', KEYS[1], 'revoked_at', ARGV[2])
