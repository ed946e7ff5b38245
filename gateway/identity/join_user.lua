-- Keeps a user's record, and gives it a field's value, and others that are empty.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  a field, or ''
-- ARGV[2]  its value: the field has it by now, or is empty
-- ARGV[3]  the time, ISO 8601 UTC
-- ARGV[4]  and so on: fields and values to fill in where there is none
-- Returns whether the field was empty (1 or 0), and the record's fields and values; nothing if there
-- is no record, or another value.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
local joined = 0
if ARGV[1] ~= '' then
  local found = redis.call('HGET', KEYS[1], ARGV[1]) or ''
  if found ~= '' and found ~= ARGV[2] then
    return nil
  end
  joined = found == '' and 1 or 0
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'updated_at', ARGV[3])
end
for at = 4, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[1], ARGV[at]) or ''
  if found == '' and ARGV[at + 1] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
redis.call('PERSIST', KEYS[1])
return {joined, redis.call('HGETALL', KEYS[1])}
