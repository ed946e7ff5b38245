-- Changes fields of a key's record; one that is revoked or gone stays so.
--
-- KEYS[1]  {prefix}:key:{sha256}, to which {prefix}:keyid:{id} led
-- ARGV[1]  the key's id
-- ARGV[2…] names and values of fields; '' takes the field away
-- Returns 1, or 0 when this is not that key's record.

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return 0
end
for at = 2, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
return 1
