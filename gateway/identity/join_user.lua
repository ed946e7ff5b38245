-- Keeps a user's record, and gives it the subject of a sign-in, and what else is empty.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the provider's field, or '' when nobody signs in
-- ARGV[2]  the subject: the field has it by now, or is empty
-- ARGV[3]  the email to take, normal and verified, or ''
-- ARGV[4]  the name to fill in, or ''
-- ARGV[5]  what is noted of a link, see `note`
-- ARGV[6]  the time, ISO 8601 UTC
-- ARGV[7]  the same in Unix seconds, with three decimals
-- Returns whether the field was empty (1 or 0), the record's fields and values, and the time for
-- the token, as sign_in.lua; or 'disabled'; nothing if the subject can't be theirs.

local user, field, subject = KEYS[1], ARGV[1], ARGV[2]

if not is_user(user) then
  return nil
end
local joined, time = 0, ''
if field ~= '' then
  if is_disabled(user) then
    return {'disabled'}
  elseif not fits(user, field, subject) then
    return nil
  end
  joined = found(user, field) == '' and 1 or 0
  if joined == 1 then
    note(user, 'linked', ARGV[5])
  end
  redis.call('HSET', user, field, subject, 'updated_at', ARGV[6])
  time = token_time(user, tonumber(ARGV[7]))
end
if ARGV[3] ~= '' then
  take_email(user, ARGV[3])
end
fill(user, 'name', ARGV[4])
redis.call('PERSIST', user)
return {joined, redis.call('HGETALL', user), time}
