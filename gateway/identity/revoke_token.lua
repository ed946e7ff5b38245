-- Revokes a token by its jti, or a session with all its tokens by its sid.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the time, in Unix seconds with three decimals
-- ARGV[2]  the id
-- ARGV[3]  the token's time, or that of the last that may have this id
-- ARGV[4]  when it expires, or '' if nobody knows
-- Returns 1, or 0 when there is no such user.

if not is_user(user) then
  return 0
end
local session = read_session(found(user, 'session:' .. ARGV[2]))
if session then
  end_session(ARGV[2], session)
else
  revoke(ARGV[2], tonumber(ARGV[3]), number(ARGV[4]))
end
return 1
