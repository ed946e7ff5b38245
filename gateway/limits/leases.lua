-- Leases: a worker that has one admits up to `allowance` of any bucket before it tells of them,
-- unless it has heard that the bucket is *marked*: more than half of its limit is counted, or it is
-- blocked. Marks are numbered in the order in which they are made, by the clock where that is
-- later; each call says up to which number its worker has heard of them, and is answered with those
-- since. A worker that has not heard of a bucket's mark may have admitted of it: so much of the limit
-- stays free until it has called again, has given its lease back, or was silent for so long that it
-- has none.

local MOST_MARKS = 10000 -- that one answer tells of: who would have to hear of more gets no lease

local function integer(number)
  return string.format('%.0f', number)
end

local function mark(policy)
  local last = redis.call('ZREVRANGE', policy.marks, 0, 0, 'WITHSCORES')
  local number = math.max(clock, (tonumber(last[2]) or 0) + 1)
  redis.call('ZADD', policy.marks, integer(number), policy.bucket)
  redis.call('ZREMRANGEBYSCORE', policy.marks, '-inf', integer(number - policy.kept))
  redis.call('PEXPIRE', policy.marks, policy.kept)
  return number
end

-- Up to which mark each of the other workers has heard; read once.
local function leases_of(policy)
  if not policy.leases then
    local found, leases = redis.call('HGETALL', policy.holders), {}
    for at = 1, #found, 2 do
      local heard, called = string.match(found[at + 1], '^(%d+) (%d+)$')
      if clock - called >= forget then
        redis.call('HDEL', policy.holders, found[at])
      elseif found[at] ~= worker then
        leases[#leases + 1] = tonumber(heard)
      end
    end
    policy.leases = leases
  end
  return policy.leases
end

-- How much of the limit must stay free for what others may have admitted, when `level` is used or
-- asked for. Marks a bucket that has to be.
local function untold(policy, level)
  if policy.allowance == 0 or 2 * level <= policy.requests then
    return 0
  end
  local marked = tonumber(redis.call('ZSCORE', policy.marks, policy.bucket) or nil)
  if not marked or clock - marked > policy.kept / 2 then
    marked = mark(policy)
  end
  local leases, number = leases_of(policy), 0
  if level + #leases * policy.allowance > policy.requests then
    for _, heard in ipairs(leases) do
      if heard < marked then
        number = number + 1
      end
    end
  end
  return number * policy.allowance
end

-- Before the questions: the caller's own lease, as the others see it.
local function renew(policy)
  if policy.heard < 0 then
    redis.call('HDEL', policy.holders, worker)
  else
    local news = integer(policy.heard) .. ' ' .. integer(clock)
    redis.call('HSET', policy.holders, worker, news)
    redis.call('PEXPIRE', policy.holders, 10 * forget)
  end
end

-- After them: what the caller has not heard of, as marks and numbers in turn; nil instead of them
-- when there are too many. And whether it has a lease. The last mark that it had heard of comes
-- along; where that is gone the others may be of another time, and the caller starts anew.
local function news_for(policy)
  if policy.heard < 0 then
    return {}, false
  end
  local marks = redis.call(
    'ZRANGEBYSCORE', policy.marks, integer(policy.heard), '+inf', 'WITHSCORES',
    'LIMIT', 0, MOST_MARKS + 1
  )
  local lost = policy.heard > 0 and tonumber(marks[2]) ~= policy.heard
  local ending = policy.ends and policy.ends <= clock + valid
  local told = #marks <= 2 * MOST_MARKS and not lost
  return told and marks or nil, told and not ending
end
