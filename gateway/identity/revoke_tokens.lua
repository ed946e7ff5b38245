-- Ends all tokens that a user has, and none of those that later sign-ins bring.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  {prefix}:user:
-- ARGV[2]  the time, ISO 8601 UTC
-- ARGV[3]  the same in Unix seconds, with three decimals
-- Returns the record's fields and values, or nil when there is no such user.
--
-- A token's time is its sign-in's, to the millisecond, or for one that was not issued here the
-- second before it. What is ended is later by a millisecond than now and than the last token.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
local id = string.sub(KEYS[1], #USER + 1)
local ended = math.max(
  tonumber(ARGV[3]), number_in(id, 'last_token_at'), number_in(id, 'tokens_valid_after')
)
redis.call(
  'HSET', KEYS[1], 'tokens_valid_after', string.format('%.3f', ended + 0.001), 'updated_at', ARGV[2]
)
return redis.call('HGETALL', KEYS[1])
