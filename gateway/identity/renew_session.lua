-- Takes a refresh token, in exchange for the next one.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the time, in Unix seconds with three decimals
-- ARGV[2]  the sid
-- ARGV[3]  the sha256 of the refresh token
-- ARGV[4]  that of the next one
-- ARGV[5]  the salt that the next one was made with
-- ARGV[6]  seconds in which the one that was used last may come again, until the next is used
-- ARGV[7]  the generation of all users' tokens
-- ARGV[8]  seconds that an access token lives
-- ARGV[9]  seconds that a session lives without a refresh
-- Returns what it was, and if it was taken the time for the access token and the next one's salt:
--   taken    the next one is good from now on, and this one no more; the same call, with the same
--            salt, has the same answer
--   again    it came again in time; the next one is that of the first time
--   unknown  there is no such user, or no such session any more
--   expired  the session is over
--   revoked  all tokens of the user, or of all users, ended since it began; or the user is disabled
--   reused   it was used before: two have it, and the session ends for both, with all its tokens

local sid, grace = ARGV[2], tonumber(ARGV[6])
local session = is_user(user) and read_session(found(user, 'session:' .. sid))
if not session then
  return {'unknown'}
end
if is_over(session) then
  forget_session(sid)
  return {'expired'}
end
local is_older = session.since < valid_after() or session.generation < tonumber(ARGV[7])
if is_older or is_disabled(user) then
  forget_session(sid)
  return {'revoked'}
end

local outcome
if session.digest == ARGV[3] then
  outcome = 'taken'
  session.previous, session.digest = ARGV[3], ARGV[4]
  session.rotated_at, session.salt = NOW, ARGV[5]
  session.idle_ends = NOW + ARGV[9]
elseif session.previous == ARGV[3] and session.salt == ARGV[5] then
  outcome = 'taken' -- by this very call, whose answer got lost
elseif grace > 0 and session.previous == ARGV[3] and NOW - session.rotated_at < grace then
  outcome = 'again'
else
  end_session(sid, session)
  return {'reused'}
end

local time = token_time(user, NOW)
session.latest = math.max(session.latest, time)
session.tokens_until = math.max(session.tokens_until, time + ARGV[8])
write_session(sid, session)
return {outcome, time, session.salt}
