-- Ends all tokens that a user has, and disables or enables them if that is asked for.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  'disable', 'enable', or '' for neither
-- ARGV[2]  the time, ISO 8601 UTC
-- ARGV[3]  the same in Unix seconds, with three decimals
-- Returns the record's fields and values, or nil when there is no such user.

local user = KEYS[1]

if not is_user(user) then
  return nil
end
if ARGV[1] ~= 'enable' or is_disabled(user) then
  end_tokens(user, tonumber(ARGV[3]))
  redis.call('HSET', user, 'updated_at', ARGV[2])
end
if ARGV[1] == 'disable' and not is_disabled(user) then
  redis.call('HSET', user, 'disabled_at', ARGV[2])
elseif ARGV[1] == 'enable' then
  redis.call('HDEL', user, 'disabled_at')
end
return redis.call('HGETALL', user)
