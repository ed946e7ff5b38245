-- How long a key has been silent, on Redis's clock.
--
-- KEYS[1]  {prefix}:used:{key id}
-- Returns {now in Unix milliseconds, milliseconds since the last use, or -1: it is not known, and
-- what stands there as the last use, or ''}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('HGET', KEYS[1], 'last_used') or ''
local used = tonumber(last)
return { now, used and now - used or -1, last }
