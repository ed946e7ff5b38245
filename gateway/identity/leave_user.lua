-- Takes back what new_user.lua or join_user.lua did for a sign-in that another one was ahead of.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the field
-- ARGV[2]  the value that it was given
-- ARGV[3]  what was noted of it
-- Returns 1 if the record is gone: it was new, and nobody has kept it.

local user = KEYS[1]

if redis.call('PTTL', user) > 0 then
  redis.call('DEL', user)
  return 1
end
if found(user, ARGV[1]) == ARGV[2] then
  redis.call('HDEL', user, ARGV[1])
  unnote(user, 'linked', ARGV[3])
end
return 0
