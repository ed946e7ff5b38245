-- Finds, links or creates the user of a sign-in, in one step.
--
-- KEYS[1]  {prefix}:user:by:{provider}:{subject}
-- KEYS[2]  {prefix}:user:by:email:{email}
-- ARGV[1]  {prefix}:user:
-- ARGV[2]  the provider's field in the record: google_id or apple_id
-- ARGV[3]  the subject
-- ARGV[4]  the email, normal and verified, or ''
-- ARGV[5]  the name, or ''
-- ARGV[6]  the time, ISO 8601 UTC
-- ARGV[7]  the same in Unix seconds, with three decimals
-- Further keys follow from the data: the record {prefix}:user:{id}, {prefix}:user:last_id.
-- Returns the user's id, the record's fields and values, and the time for the token.
--
-- 1. Whoever has this subject. 2. Else whoever has this email and no subject of this provider yet:
-- they are linked. 3. Else a new user. A subject never moves from one user to another; so an email
-- whose user has another subject here stays with that user, and the new one has none.
--
-- The token's time is the gateway's, but not before `tokens_valid_after`: a gateway whose clock is
-- behind issues good tokens too. The latest is kept, for revoke_tokens.lua to end that one as well.

local SKEW = 30 -- seconds that tokens.py lets a token's time be ahead
local field, subject, email, name, now = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local seconds = tonumber(ARGV[7])

local id = indexed(KEYS[1], field, subject)
local owner = email ~= '' and indexed(KEYS[2], 'email', email) or nil

if not id and owner then
  local linked = redis.call('HGET', USER .. owner, field)
  if not linked or linked == '' or linked == subject then
    id = owner
  end
end
if not id then
  id = next_id()
  create(id, now)
end

redis.call('HSET', USER .. id, field, subject, 'updated_at', now)
redis.call('SET', KEYS[1], id)
if email ~= '' and (not owner or owner == id) then
  if fill(id, 'email', email) or owner == id then
    redis.call('SET', KEYS[2], id)
  elseif normal_email(redis.call('HGET', USER .. id, 'email')) == email then
    redis.call('SET', KEYS[2], id)
  end
end
fill(id, 'name', name)

local ended, token_time = number_in(id, 'tokens_valid_after'), seconds
if ended > seconds and ended <= seconds + SKEW then
  token_time = ended
end
local latest = math.max(token_time, number_in(id, 'last_token_at'))
redis.call('HSET', USER .. id, 'last_token_at', string.format('%.3f', latest))

return {id, redis.call('HGETALL', USER .. id), string.format('%.3f', token_time)}
