-- Finds, links or creates the user of a sign-in, in one step.
--
-- KEYS[1]  {prefix}:user:by:{provider}:{subject}
-- KEYS[2]  {prefix}:user:by:email:{email}
-- ARGV[1]  {prefix}:user:
-- ARGV[2]  the provider's field in the record: google_id or apple_id
-- ARGV[3]  the subject
-- ARGV[4]  the email, normal and verified, or ''
-- ARGV[5]  the name, or ''
-- ARGV[6]  what is noted of a link, see `note`
-- ARGV[7]  the time, ISO 8601 UTC
-- ARGV[8]  the same in Unix seconds, with three decimals
-- Further keys follow from the data: the record {prefix}:user:{id}, {prefix}:user:last_id.
-- Returns the user's id, the record's fields and values, and the time for the token; or 'disabled'.
--
-- 1. Whoever has this subject. 2. Else whoever has this email, vouched for, and no subject of this
-- provider yet: they are linked, unless this very subject was taken from them. 3. Else a new user.
-- A subject never moves from one user to another; so an email whose user has another subject here
-- stays with that user, and the new one has none. An email that nobody vouches for is free.

local field, subject, email, name, now = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[7]

local id = indexed(KEYS[1], field, subject)
local owner = email ~= '' and indexed(KEYS[2], 'email', email) or nil
local known = id or owner

if known and is_disabled(USER .. known) then
  return {'disabled'}
end
if not id and owner and fits(USER .. owner, field, subject) then
  id = owner
end
if not id then
  id = next_id()
  create(id, now)
  note(USER .. id, 'created', ARGV[6])
elseif found(USER .. id, field) == '' then
  note(USER .. id, 'linked', ARGV[6])
end

local user = USER .. id
redis.call('HSET', user, field, subject, 'updated_at', now)
redis.call('SET', KEYS[1], id)
if email ~= '' and (not owner or owner == id) and take_email(user, email) then
  redis.call('SET', KEYS[2], id)
end
fill(user, 'name', name)

local time = token_time(user, tonumber(ARGV[8]))
return {id, redis.call('HGETALL', user), time}
