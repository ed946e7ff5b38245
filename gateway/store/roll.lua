-- Calls the roll: which workers live, and which have not been heard of lately. One that calls it
-- itself says so that it lives. All times are Redis's own.
--
-- KEYS[1]  {prefix}:workers: a sorted set, each worker with the time of its last sign of life, ms
-- ARGV[1]  the worker that calls, or ''
-- ARGV[2]  ms after which one that was not heard of is silent
-- ARGV[3]  ms after which it is forgotten
-- ARGV[4]  how many are remembered at most; the silent ones go first
-- Returns the names of those that live, and of those that are silent.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[4] - 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end

local since = now - ARGV[2]
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], since, '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. since)
}
