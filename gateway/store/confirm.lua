-- A worker confirms that it has heard a barrier, while somebody waits for that.
--
-- KEYS[1]  {prefix}:barrier:{written key}:{nonce}; it is gone when nobody waits any more
-- KEYS[2]  {prefix}:ack:{written key}:{nonce}: a list of workers
-- ARGV[1]  the worker
-- ARGV[2]  ms that the list lives

if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RPUSH', KEYS[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
