-- Creates a user, in one step.
--
-- KEYS[1]  {prefix}:user:by:email:{email}
-- ARGV[1]  {prefix}:user:
-- ARGV[2]  the id, or '' for the next free one
-- ARGV[3]  the email, normal, or ''
-- ARGV[4]  the name, or ''
-- ARGV[5]  the time, ISO 8601 UTC
-- Further keys follow from the data: the record {prefix}:user:{id}, {prefix}:user:last_id.
-- Returns 'id' or 'email' if that is taken; else the id, and then the record's fields and values.

local id, email, name, now = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if email ~= '' and indexed(KEYS[1], 'email', email) then
  return {'email'}
end
if id == '' then
  id = next_id()
elseif redis.call('EXISTS', USER .. id) == 1 then
  return {'id'}
end

create(id, now)
if fill(USER .. id, 'email', email) then
  redis.call('SET', KEYS[1], id)
end
fill(USER .. id, 'name', name)

return {id, redis.call('HGETALL', USER .. id)}
