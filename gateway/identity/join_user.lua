-- Keeps a user's record, and gives it a field's value, and others that are empty.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  a field, or '' when nobody signs in
-- ARGV[2]  its value: the field has it by now, or is empty
-- ARGV[3]  the time, ISO 8601 UTC
-- ARGV[4]  the same in Unix seconds, with three decimals
-- ARGV[5]  and so on: fields and values to fill in where there is none
-- Returns whether the field was empty (1 or 0), the record's fields and values, and the time for the
-- token, as sign_in.lua; nothing if there is no record, or another value.

local SKEW = 30 -- seconds that tokens.py lets a token's time be ahead
local seconds = tonumber(ARGV[4])

local function found(field)
  return redis.call('HGET', KEYS[1], field) or ''
end

if redis.call('EXISTS', KEYS[1]) == 0 then
  return nil
end
local joined, token_time = 0, seconds
if ARGV[1] ~= '' then
  local value = found(ARGV[1])
  if value ~= '' and value ~= ARGV[2] then
    return nil
  end
  joined = value == '' and 1 or 0
  local ended = tonumber(found('tokens_valid_after')) or 0
  if ended > seconds and ended <= seconds + SKEW then
    token_time = ended
  end
  local latest = math.max(token_time, tonumber(found('last_token_at')) or 0)
  redis.call(
    'HSET', KEYS[1], ARGV[1], ARGV[2], 'updated_at', ARGV[3],
    'last_token_at', string.format('%.3f', latest)
  )
end
for at = 5, #ARGV, 2 do
  if ARGV[at + 1] ~= '' and found(ARGV[at]) == '' then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
redis.call('PERSIST', KEYS[1])
return {joined, redis.call('HGETALL', KEYS[1]), string.format('%.3f', token_time)}
