-- Changes records, each only if it is still as it was read: with the same ciphertext, switched on or
-- off as it was.
-- KEYS     {prefix}:vault:{email}, one for each record
-- ARGV[1]  'whole': nothing of the record before stays, without fields it is deleted; or 'part':
--          what isn't named stays
-- ARGV[2…] for each record the ciphertext that it had, its is_active ('1', '0', or '' if there was
--          no record), how many words follow, and these: names and values of fields
-- Returns for each record 1 if it was changed, 0 if it is another one by now.

local function was_read(key, ciphertext, is_active)
  if redis.call('EXISTS', key) == 0 then
    return is_active == ''
  end
  local now = redis.call('HGET', key, 'is_active') == '1' and '1' or '0'
  return is_active == now and (redis.call('HGET', key, 'ciphertext') or '') == ciphertext
end

local outcomes, at = {}, 2
for number, key in ipairs(KEYS) do
  local words = tonumber(ARGV[at + 2])
  outcomes[number] = 0
  if was_read(key, ARGV[at], ARGV[at + 1]) then
    if ARGV[1] == 'whole' then
      redis.call('DEL', key)
    end
    if words > 0 then
      redis.call('HSET', key, unpack(ARGV, at + 3, at + 2 + words))
    end
    outcomes[number] = 1
  end
  at = at + 3 + words
end
return outcomes
