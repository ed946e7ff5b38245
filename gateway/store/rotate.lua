-- Sets fields of a key's record if it still is as its reader saw it.
--
-- KEYS[1]  {prefix}:key:{sha256}
-- ARGV[1]  how many fields it had
-- ARGV[2…] these, each with its value; then those to set, each with its value
-- Returns 1, or 0 when it has changed.

local fields = tonumber(ARGV[1])
if redis.call('HLEN', KEYS[1]) ~= fields then
  return 0
end
for index = 2, fields * 2, 2 do
  if redis.call('HGET', KEYS[1], ARGV[index]) ~= ARGV[index + 1] then
    return 0
  end
end
redis.call('HSET', KEYS[1], unpack(ARGV, fields * 2 + 2))
return 1
