-- Makes ids stand for keys, where they stand for none.
--
-- KEYS  {prefix}:keyid:{id}, one for each id
-- ARGV  the sha256 of each one's key, in the same order
-- Returns for each 'claimed', 'same' if it stood for that key, or 'other'.

local outcomes = {}
for number, id in ipairs(KEYS) do
  if redis.call('SET', id, ARGV[number], 'NX') then
    outcomes[number] = 'claimed'
  elseif redis.pcall('GET', id) == ARGV[number] then
    outcomes[number] = 'same'
  else
    outcomes[number] = 'other'
  end
end
return outcomes
