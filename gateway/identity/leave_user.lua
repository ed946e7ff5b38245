-- Takes back what new_user.lua or join_user.lua did for a sign-in that another one was ahead of.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the field
-- ARGV[2]  the value that it was given
-- Returns 1 if the record is gone: it was new, and nobody has kept it.

if redis.call('PTTL', KEYS[1]) > 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
