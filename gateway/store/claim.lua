-- Makes ids stand for keys, where they stand for none.
--
-- KEYS  {prefix}:keyid:{id}, one for each id
-- ARGV  the sha256 of each one's key, in the same order
-- Returns for each 'claimed', 'same' if it stood for that key, or 'other'.

local outcomes = {}
for number, id in ipairs(KEYS) do
  if redis.call('SETNX', id, ARGV[number]) == 1 then
    outcomes[number] = 'claimed'
  elseif redis.call('TYPE', id).ok == 'string' and redis.call('GET', id) == ARGV[number] then
    outcomes[number] = 'same'
  else
    outcomes[number] = 'other'
  end
end
return outcomes
