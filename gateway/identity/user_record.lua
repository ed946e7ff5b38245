-- What the scripts on users share of one record, `user`, by its key. Lua's '' stands for null.

local MOST_EVENTS = 20 -- that a record keeps of its links
local SKEW = 30 -- seconds that tokens.py lets a token's time be ahead

local function found(user, field)
  return redis.call('HGET', user, field) or ''
end

-- Who was deleted leaves a record that says so: the id is never given again.
local function is_user(user)
  return redis.call('EXISTS', user) == 1 and not redis.call('HGET', user, 'deleted_at')
end

local function is_disabled(user)
  return redis.call('HGET', user, 'disabled_at') and true or false
end

-- Does anybody vouch for the email? '1': a provider. Nothing: whoever wrote the record.
local function is_vouched(user)
  local verified = redis.call('HGET', user, 'email_verified')
  return not verified or verified == '1'
end

local function normal_email(email)
  return string.lower((string.gsub(email, '^%s*(.-)%s*$', '%1')))
end

-- Was this subject taken from the user, not to be linked again? `field` is google_id or apple_id.
local function is_barred(user, field, subject)
  local word = ' ' .. string.sub(field, 1, -4) .. ':' .. subject .. ' '
  return string.find(' ' .. found(user, 'unlinked') .. ' ', word, 1, true) ~= nil
end

-- May an index of `field` and `value` lead to this record? If it has that value there, or none.
local function fits(user, field, value)
  local here = found(user, field)
  if not is_user(user) then
    return false
  elseif field == 'email' then
    return is_vouched(user) and (here == '' or normal_email(here) == value)
  end
  return (here == '' or here == value) and not is_barred(user, field, value)
end

-- Sets `field` if it is empty; '' is no value.
local function fill(user, field, value)
  if value ~= '' and found(user, field) == '' then
    redis.call('HSET', user, field, value)
    return true
  end
  return false
end

-- Takes an email that a provider has verified, if there is none, or the same. Returns whether so.
local function take_email(user, email)
  if fill(user, 'email', email) or normal_email(found(user, 'email')) == email then
    redis.call('HSET', user, 'email_verified', '1')
    return true
  end
  return false
end

-- An event, as `links` has one in each line: a JSON object; `more` is what follows its first name.
local function line_of(event, more)
  return '{"event": "' .. event .. '", ' .. more .. '\n'
end

local function note(user, event, more)
  local lines = found(user, 'links') .. line_of(event, more)
  local _, count = string.gsub(lines, '\n', '')
  for _ = MOST_EVENTS + 1, count do
    lines = string.sub(lines, string.find(lines, '\n', 1, true) + 1)
  end
  redis.call('HSET', user, 'links', lines)
end

local function unnote(user, event, more)
  local lines, line = found(user, 'links'), line_of(event, more)
  local first, last = string.find(lines, line, 1, true)
  if first then
    redis.call('HSET', user, 'links', string.sub(lines, 1, first - 1) .. string.sub(lines, last + 1))
  end
end

-- A field's number; 0 for what is none.
local function number_in(user, field)
  return tonumber(found(user, field)) or 0
end

-- The time for the token of a sign-in at `seconds`: the gateway's, but not before
-- `tokens_valid_after`, as a gateway whose clock is behind issues good tokens too. The latest is
-- kept, for end_tokens to end that one as well.
local function token_time(user, seconds)
  local ended, time = number_in(user, 'tokens_valid_after'), seconds
  if ended > seconds and ended <= seconds + SKEW then
    time = ended
  end
  local latest = math.max(time, number_in(user, 'last_token_at'))
  redis.call('HSET', user, 'last_token_at', string.format('%.3f', latest))
  return string.format('%.3f', time)
end

-- Ends all tokens that there are, and none of those that later sign-ins bring. A token's time is
-- its sign-in's, to the millisecond, or for one that was not issued here the second before it. What
-- is ended is later by a millisecond than now and than the last token.
local function end_tokens(user, seconds)
  local ended = math.max(
    seconds, number_in(user, 'last_token_at'), number_in(user, 'tokens_valid_after')
  )
  redis.call('HSET', user, 'tokens_valid_after', string.format('%.3f', ended + 0.001))
end
