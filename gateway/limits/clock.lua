-- The clock of every limit: Redis's own, in milliseconds since 1970. No gateway's clock counts.
-- Goes before window.lua, which reads `clock`.
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
