-- What the scripts on a user's tokens share, beside user_record.lua: revoked ids and sessions.
--
-- KEYS[1]  {prefix}:user:{id}
-- ARGV[1]  the time, in Unix seconds with three decimals
--
-- `revoked_tokens` has a word for each: `id:latest:ends`. The id is a token's jti, or the sid of a
-- session's tokens; `latest` the time of the last token that has it; `ends` when that expires, or
-- '' if nobody knows. `session:{sid}` has a word for each of SESSION. Times are Unix seconds.

local MOST_REVOKED, MOST_SESSIONS = 100, 20
local KEPT_AFTER = 300 -- seconds, since another gateway's clock may be behind
local SESSION = {
  'digest', 'since', 'generation', 'ends', 'idle_ends',
  'latest', 'tokens_until', 'previous', 'rotated_at', 'salt',
}
local NUMBERS = {'since', 'generation', 'ends', 'idle_ends', 'latest', 'tokens_until', 'rotated_at'}
local NOW = tonumber(ARGV[1])
local user = KEYS[1]

local function number(text)
  local value = tonumber(text)
  return value == value and value or nil
end

local function seconds(value)
  return string.format('%.3f', value)
end

-- Tokens of before are ended. What can't be read ends all.
local function valid_after()
  local text = found(user, 'tokens_valid_after')
  return text == '' and 0 or number(text) or math.huge
end

-- Beyond MOST_REVOKED, the ones with the oldest tokens go, and all that were issued by then end.
local function revoke(id, latest, ends)
  local kept = {}
  for word in string.gmatch(found(user, 'revoked_tokens'), '%S+') do
    local other, its_latest, its_ends = string.match(word, '^([^:]*):?([^:]*):?(.*)$')
    its_latest, its_ends = number(its_latest) or NOW, number(its_ends)
    if other == id then
      latest = math.max(latest, its_latest)
      ends = ends and its_ends and math.max(ends, its_ends)
    elseif not its_ends or its_ends + KEPT_AFTER >= NOW then
      table.insert(kept, {other, its_latest, its_ends})
    end
  end
  table.insert(kept, {id, latest, ends})
  table.sort(kept, function(one, another) return one[2] > another[2] end)
  local passed = 0
  while #kept > MOST_REVOKED do
    passed = table.remove(kept)[2] + 0.001
  end
  if passed > valid_after() then
    redis.call('HSET', user, 'tokens_valid_after', seconds(passed))
  end
  local words = {}
  for _, one in ipairs(kept) do
    table.insert(words, one[1] .. ':' .. seconds(one[2]) .. ':' .. (one[3] and seconds(one[3]) or ''))
  end
  redis.call('HSET', user, 'revoked_tokens', table.concat(words, ' '))
end

local function read_session(text)
  local session, at = {}, 0
  for word in string.gmatch(text, '%S+') do
    at = at + 1
    session[SESSION[at] or 'more'] = word
  end
  for _, name in ipairs(NUMBERS) do
    session[name] = number(session[name])
    if not session[name] then
      return nil
    end
  end
  return session
end

local function write_session(sid, session)
  local words = {}
  for at, name in ipairs(SESSION) do
    local value = session[name]
    words[at] = type(value) == 'number' and seconds(value) or value
  end
  redis.call('HSET', user, 'session:' .. sid, table.concat(words, ' '))
end

local function is_over(session)
  return session.ends <= NOW or session.idle_ends <= NOW
end

local function forget_session(sid)
  redis.call('HDEL', user, 'session:' .. sid)
end

-- With all its tokens.
local function end_session(sid, session)
  forget_session(sid)
  revoke(sid, session.latest, session.tokens_until)
end
