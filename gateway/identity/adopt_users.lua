-- Takes users' records over from elsewhere. Nobody gets another email or subject than they have,
-- and what ends access is taken over. Of what else differs, ARGV[1] says which goes before.
--
-- KEYS     {prefix}:user:{id}, one for each user
-- ARGV[1]  'here', or 'file': there what the file doesn't name stays
-- ARGV[2]  the time, ISO 8601 UTC
-- ARGV[3…] for each user how many words follow, and these: names and values of fields, `id` first
-- Returns for each user 'new', 'changed', 'same', 'kept' (it differs, and stayed); or why it can't
-- be: 'deleted' (here), 'alive' (here, and deleted there), 'email', 'google_id' or 'apple_id'
-- (another here), 'unlinked' (here).

local ITS_OWN = {'email', 'google_id', 'apple_id'}
local LATEST = {tokens_valid_after = true, last_token_at = true}
local ADDED = {revoked_tokens = true, unlinked = true}
local UNTOLD = {id = true, updated_at = true}

-- Words of `value` that the field has not; none of a link that the user has.
local function missing(user, field, value)
  local words = {}
  for word in string.gmatch(value, '%S+') do
    local provider, subject = string.match(word, '^(%w+):(.*)$')
    local has = string.find(' ' .. found(user, field) .. ' ', ' ' .. word .. ' ', 1, true)
    local is_link = field == 'unlinked' and found(user, provider .. '_id') == subject
    if not has and not is_link then
      table.insert(words, word)
    end
  end
  return words
end

-- What `user` is to have of a field of the file, or nil if that is what they have; and whether that
-- is so whatever goes before.
local function taken(user, field, value)
  local here = redis.call('HGET', user, field)
  if UNTOLD[field] or here == value or field == 'disabled_at' and here then
    return nil
  elseif field == 'email' and here and normal_email(here) == value then
    return nil
  elseif field == 'disabled_at' then
    return value, true
  elseif LATEST[field] then
    if here and not (tonumber(here) and tonumber(value) > tonumber(here)) then
      return nil
    end
    return value, true
  elseif ADDED[field] then
    local words = missing(user, field, value)
    if #words == 0 then
      return nil
    end
    if here and here ~= '' then
      table.insert(words, 1, here)
    end
    return table.concat(words, ' '), true
  end
  return value, false
end

local function adopt(user, first, last)
  if redis.call('EXISTS', user) == 0 then
    redis.call('HSET', user, unpack(ARGV, first, last))
    if is_user(user) then
      fill(user, 'is_vip', '0')
      fill(user, 'created_at', ARGV[2])
      fill(user, 'updated_at', ARGV[2])
    end
    return 'new'
  end
  local given = {}
  for at = first, last, 2 do
    given[ARGV[at]] = ARGV[at + 1]
  end
  if not is_user(user) then
    return given.deleted_at and 'same' or 'deleted'
  elseif given.deleted_at then
    return 'alive'
  end
  for _, field in ipairs(ITS_OWN) do
    local here, value = found(user, field), given[field]
    if value and here ~= '' and here ~= value and normal_email(here) ~= value then
      return field
    elseif value and field ~= 'email' and is_barred(user, field, value) then
      return 'unlinked'
    end
  end
  local outcome = 'same'
  for at = first, last, 2 do
    local value, always = taken(user, ARGV[at], ARGV[at + 1])
    if value and (always or ARGV[1] == 'file') then
      redis.call('HSET', user, ARGV[at], value)
      outcome = 'changed'
    elseif value and outcome == 'same' then
      outcome = 'kept'
    end
  end
  if outcome == 'changed' then
    redis.call('HSET', user, 'updated_at', ARGV[2])
  end
  return outcome
end

local outcomes, at = {}, 3
for number, user in ipairs(KEYS) do
  local words = tonumber(ARGV[at])
  outcomes[number] = adopt(user, at + 1, at + words)
  at = at + 1 + words
end
return outcomes
