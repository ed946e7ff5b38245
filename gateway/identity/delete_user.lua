-- Deletes a user, in two steps: what the record leads to must be found until it is gone.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  'begin': nobody gets in as them from now on; 'end': the id and the time alone stay
-- ARGV[2]  the id
-- ARGV[3]  the time, ISO 8601 UTC
-- Returns the record's fields and values, or nil when there never was such a user.

local user = KEYS[1]

if redis.call('EXISTS', user) == 0 then
  return nil
end
fill(user, 'deleted_at', ARGV[3])
redis.call('PERSIST', user)
if ARGV[1] == 'end' then
  local at = found(user, 'deleted_at')
  redis.call('DEL', user)
  redis.call('HSET', user, 'id', ARGV[2], 'deleted_at', at)
end
return redis.call('HGETALL', user)
