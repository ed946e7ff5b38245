-- Opens a session for a user who has signed in.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the time, in Unix seconds with three decimals
-- ARGV[2]  the sid
-- ARGV[3]  the sha256 of the refresh token
-- ARGV[4]  the generation of all users' tokens
-- ARGV[5]  the time of the access token
-- ARGV[6]  seconds that an access token lives
-- ARGV[7]  seconds that a session lives, whatever is done
-- ARGV[8]  seconds that it lives without a refresh
-- Returns 1, or 0 when there is no such user. Beyond MOST_SESSIONS, those that were used the
-- longest time ago end.

if not is_user(user) then
  return 0
end
local record, open = redis.call('HGETALL', user), {}
for at = 1, #record, 2 do
  local sid = string.match(record[at], '^session:(.*)$')
  local session = sid and read_session(record[at + 1])
  if session and not is_over(session) then
    table.insert(open, {sid, session})
  elseif sid then
    forget_session(sid)
  end
end
table.sort(open, function(one, another) return one[2].latest > another[2].latest end)
while #open >= MOST_SESSIONS do
  end_session(unpack(table.remove(open)))
end

local since = tonumber(ARGV[5])
write_session(ARGV[2], {
  digest = ARGV[3],
  since = since,
  generation = tonumber(ARGV[4]),
  ends = NOW + ARGV[7],
  idle_ends = NOW + ARGV[8],
  latest = since,
  tokens_until = since + ARGV[6],
  previous = '-',
  rotated_at = 0,
  salt = '-',
})
return 1
