-- Creates those users who are unknown.
--
-- KEYS     {prefix}:user:{id}, one for each user
-- ARGV[1]  the time, ISO 8601 UTC
-- ARGV[2…] for each user the id, the plan or '', and the plan's end or ''
-- Returns for each 1, or 0 for one who is there.

local outcomes = {}
for number, user in ipairs(KEYS) do
  outcomes[number] = 0
  if redis.call('EXISTS', user) == 0 then
    local id, plan, ends = unpack(ARGV, number * 3 - 1, number * 3 + 1)
    redis.call('HSET', user, 'id', id, 'is_vip', '0', 'created_at', ARGV[1], 'updated_at', ARGV[1])
    if plan ~= '' then
      redis.call('HSET', user, 'plan', plan)
    end
    if ends ~= '' then
      redis.call('HSET', user, 'plan_expires_at', ends)
    end
    outcomes[number] = 1
  end
end
return outcomes
