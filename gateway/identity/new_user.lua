-- Writes the record of a new user, for a moment: it goes by itself unless it is kept (join_user.lua).
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  ms that it stays
-- ARGV[2]  and so on: fields and values
-- Returns 1, or 0 if there is a record already.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
