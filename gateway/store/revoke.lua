-- Revokes a key once; a later call leaves the first time as it is.
--
-- KEYS[1]  {prefix}:keyid:{id}
-- ARGV[1]  what the names of key records begin with
-- ARGV[2]  the key's id
-- ARGV[3]  the time, ISO 8601 UTC
-- Returns the key's sha256, or nil when there is no such key.

local digest = redis.call('GET', KEYS[1])
if not digest then
  return nil
end
local record = ARGV[1] .. digest
if redis.call('HGET', record, 'id') ~= ARGV[2] then
  return nil
end
redis.call('HSETNX', record, 'revoked_at', ARGV[3])
return digest
