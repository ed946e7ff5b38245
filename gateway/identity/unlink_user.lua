-- Takes a provider's subject from a user, and ends all tokens that the user has.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the provider: google or apple
-- ARGV[2]  the subject, '' if there is none
-- ARGV[3]  '1' if a sign-in with what was ever taken of this provider may link it again, else '0'
-- ARGV[4]  what is noted of it, see `note`
-- ARGV[5]  the time, ISO 8601 UTC
-- ARGV[6]  the same in Unix seconds, with three decimals
-- Returns the record's fields and values; 'other' if the subject is another one; nil when there is
-- no such user.

local user, provider, subject = KEYS[1], ARGV[1], ARGV[2]
local field = provider .. '_id'

if not is_user(user) then
  return nil
end
if found(user, field) ~= subject then
  return {'other'}
end
local barred = found(user, 'unlinked')
if ARGV[3] == '1' then
  barred = string.gsub(' ' .. barred, ' ' .. provider .. ':%S*', '')
  barred = string.gsub(barred, '^ ', '')
elseif subject ~= '' and not is_barred(user, field, subject) then
  barred = barred .. (barred == '' and '' or ' ') .. provider .. ':' .. subject
end
if barred == '' then
  redis.call('HDEL', user, 'unlinked')
else
  redis.call('HSET', user, 'unlinked', barred)
end
if subject ~= '' then
  redis.call('HDEL', user, field)
  note(user, 'unlinked', ARGV[4])
end
end_tokens(user, tonumber(ARGV[6]))
redis.call('HSET', user, 'updated_at', ARGV[5])
return redis.call('HGETALL', user)
