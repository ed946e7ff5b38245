-- Takes keys' records over from elsewhere. Whose key it is never changes, a revocation is taken
-- over, and one that is here stays. Of what else differs, ARGV[1] says which goes before.
--
-- KEYS     {prefix}:key:{sha256}, one for each key
-- ARGV[1]  'here', or 'file': there what the file doesn't name stays
-- ARGV[2…] for each key how many words follow, and these: names and values of fields, `id` first
--          and `user_id` second
-- Returns for each key 'new', 'changed', 'same', 'kept' (it differs, and stayed), or 'other': this
-- key has another id or another user here.

local function adopt(key, first, last)
  if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, unpack(ARGV, first, last))
    return 'new'
  end
  for at = first, first + 2, 2 do
    if redis.pcall('HGET', key, ARGV[at]) ~= ARGV[at + 1] then
      return 'other'
    end
  end
  local outcome = 'same'
  for at = first + 4, last, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    local here = redis.call('HGET', key, name)
    if name == 'revoked_at' and here or here == value then
      -- stays as it is
    elseif name == 'revoked_at' or ARGV[1] == 'file' then
      redis.call('HSET', key, name, value)
      outcome = 'changed'
    elseif outcome == 'same' then
      outcome = 'kept'
    end
  end
  return outcome
end

local outcomes, at = {}, 2
for number, key in ipairs(KEYS) do
  local words = tonumber(ARGV[at])
  outcomes[number] = adopt(key, at + 1, at + words)
  at = at + 1 + words
end
return outcomes
