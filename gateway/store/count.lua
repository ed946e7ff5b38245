-- Adds a worker's counts to hashes, once: the same batch again changes nothing.
--
-- KEYS[1]   the worker's mark for these hashes: the number of its last batch
-- KEYS[2…]  the hashes
-- ARGV[1]   the batch's number; they ascend
-- ARGV[2]   seconds that the mark is kept
-- ARGV[3]   seconds that a hash is kept after this
-- ARGV[4…]  for each hash: milliseconds since the last use (empty: it holds none), from where it
--           came, how many fields follow, and each field with what is added to it
-- Returns how many additions Redis refused: what another program wrote there is no number.

if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])

-- On Redis's clock: no gateway's counts.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local refused, at = 0, 4
for index = 2, #KEYS do
  local key, age, address, fields = KEYS[index], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  at = at + 3
  local usable = false
  for _ = 1, fields do
    if type(redis.pcall('HINCRBY', key, ARGV[at], ARGV[at + 1])) == 'number' then
      usable = true
    else
      refused = refused + 1
    end
    at = at + 2
  end
  if usable and age ~= '' then
    local used = now - tonumber(age)
    if used >= (tonumber(redis.call('HGET', key, 'last_used') or 0) or 0) then
      redis.call('HSET', key, 'last_used', string.format('%.0f', used), 'last_from', address)
    end
  end
  if usable then
    redis.call('PEXPIRE', key, ARGV[3] * 1000)
  end
end
return refused
