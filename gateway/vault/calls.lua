-- The book of calls to Binance, kept by all gateways together.
-- KEYS[1]  {prefix}:binance, a hash: since (when the minute began, Unix ms), calls (in it), until
--          (Unix ms: nobody calls before)
-- ARGV[1]  how many calls there may be in a minute; ARGV[2]  ms from now on in which nobody shall
--          call, or 0
-- Returns the ms to wait for a call; 0: it is in the book, make it.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = tonumber(redis.call('HGET', KEYS[1], 'until')) or 0
local pause = tonumber(ARGV[2])
if pause > 0 then
  until_ms = math.max(until_ms, now + pause)
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', until_ms))
  redis.call('PEXPIRE', KEYS[1], math.max(until_ms - now, 60000))
  return until_ms - now
end
if until_ms > now then
  return until_ms - now
end
local since = tonumber(redis.call('HGET', KEYS[1], 'since')) or 0
local calls = tonumber(redis.call('HGET', KEYS[1], 'calls')) or 0
if now - since >= 60000 then
  since, calls = now, 0
end
if calls >= tonumber(ARGV[1]) then
  return since + 60000 - now
end
redis.call('HSET', KEYS[1], 'since', string.format('%.0f', since), 'calls', calls + 1)
redis.call('PEXPIRE', KEYS[1], 60000)
return 0
