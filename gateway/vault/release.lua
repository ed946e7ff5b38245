-- Give a turn back, if it still is the giver's.
-- KEYS[1] the turn; ARGV[1] whose it must be
-- Returns 1 if it was, else 0.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
