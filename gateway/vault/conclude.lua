-- Write the outcome of a verification, if the key that was verified is still the one registered.
-- KEYS[1] the record's hash
-- ARGV[1] the ciphertext that was verified, [2] verification_status, [3] time (ISO 8601 UTC)
-- Returns 1 if written, 0 if the record is another one by now, or gone.
if redis.call('HGET', KEYS[1], 'ciphertext') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'verification_status', ARGV[2], 'last_verified', ARGV[3])
return 1
