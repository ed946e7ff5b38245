-- Counts requests against policies, one bucket of one policy at a time, and blocks a bucket that
-- exceeds a policy which blocks. One call answers many questions; their keys share a slot.
-- courier.py is the only caller. It puts before this: clock.lua (`clock`), state.lua, leases.lua,
-- sliding.lua, calendar.lua, slots.lua.
--
-- KEYS  for each policy with an allowance:  its marks; the holders of leases
--       for each question:  the bucket's window; its block, if its policy blocks
-- ARGV  1 ms that a reservation or a lease is valid   2 ms after which a lost one is forgotten
--       3 the worker, in a word                       4 number of policies, then for each:
--         requests    units of weight in any window
--         window      ms, or `day` or `month`, or `concurrent`
--         unit        ms, in which the times of its log are kept; concurrent: of a lease
--         block       ms (0: none)
--         grant       size of a reservation (0: none)
--         allowance   what a lease allows (0: there are none)
--         kept        ms that a worker keeps in mind what is marked
--         heard       number of the last mark that it has heard of (-1: it gives its lease back)
--       then, for each question:
--         policy      its number, from 1
--         asked       how many requests wait for an answer
--         weight      of each of these
--         granted_at  the reservation that the caller gives back: when it was granted (0: none),
--         size        how much it was for (0: it had a lease, and its news were of that time),
--         used        and how much of it was used; concurrent: the worker's number, 0, and how
--                     many it has
-- Returns, for each question:
--         admitted    how many of those that asked
--         verdict     on the others, see below
--         remaining   of the quota, when all that is reserved by others gets used
--         wait        ms: BLOCKED, until the block ends; EXCEEDED, for at least how long nobody
--                     of this weight can be admitted; UNDECIDED, until it is worth asking again;
--                     otherwise, until the oldest request leaves the window or the period ends
--         reserved    how much more the caller may admit on its own
--         now         ms since 1970: when this was decided, and the reservation granted
--       then, for each policy with an allowance:
--         leased      ms since 1970: now, or 0 if the caller has no lease
--         told        how many marks it is told of, and for each its bucket's key, its number;
--                     -1: it is to start anew, as if it had heard of none
--
-- A block is the time when it ends, as decimal text.

local KINDS = {day = decide_calendar, month = decide_calendar, concurrent = decide_slots}

local texts = {} -- by key; what a question writes, a later one reads
local values = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  texts[key] = values[i]
end

local function keep(key, text, milliseconds)
  texts[key] = text
  if text then
    redis.call('SET', key, text, 'PX', milliseconds)
  else
    redis.call('DEL', key)
  end
end

local policies, at, key_at = {}, 5, 1
for i = 1, tonumber(ARGV[4]) do
  local policy = {
    requests = tonumber(ARGV[at]), window = tonumber(ARGV[at + 1]) or ARGV[at + 1],
    unit = tonumber(ARGV[at + 2]), block = tonumber(ARGV[at + 3]), grant = tonumber(ARGV[at + 4]),
    allowance = tonumber(ARGV[at + 5]), kept = tonumber(ARGV[at + 6]),
    heard = tonumber(ARGV[at + 7]),
  }
  if policy.allowance > 0 then
    policy.marks, policy.holders = KEYS[key_at], KEYS[key_at + 1]
    key_at = key_at + 2
    renew(policy)
  end
  policies[i] = policy
  at = at + 8
end

local reply = {}
for question = at, #ARGV, 6 do
  local policy = policies[tonumber(ARGV[question])]
  local window_key, block_key = KEYS[key_at], nil
  policy.bucket = window_key
  key_at = key_at + 1
  if policy.block > 0 then
    block_key = KEYS[key_at]
    key_at = key_at + 1
  end
  local asked, weight = tonumber(ARGV[question + 1]), tonumber(ARGV[question + 2])
  local granted_at, size = tonumber(ARGV[question + 3]), tonumber(ARGV[question + 4])
  local used = tonumber(ARGV[question + 5])
  local blocked_until = tonumber(block_key and texts[block_key] or 0)
  local text, milliseconds = nil, 0
  local admitted, verdict, remaining, wait, reserved, now = 0, BLOCKED, 0, 0, 0, clock
  if blocked_until > clock then
    wait = blocked_until - clock
    if size + used > 0 and policy.block < policy.window then -- it will count when the block ends
      local grant = policy.grant
      policy.grant = 0
      text, milliseconds = decide_sliding(
        policy, texts[window_key], 0, weight, granted_at, size, used
      )
      keep(window_key, text, milliseconds)
      policy.grant = grant
    end
  else
    local decide = KINDS[policy.window] or decide_sliding
    text, milliseconds, admitted, verdict, remaining, wait, reserved, now = decide(
      policy, texts[window_key], asked, weight, granted_at, size, used
    )
    if verdict == EXCEEDED and block_key then
      wait = policy.block
      keep(block_key, string.format('%.0f', now + wait), wait)
      if wait >= policy.window then
        text = false -- empty by the time the block ends
      end
    end
    keep(window_key, text, milliseconds)
  end
  local last = #reply
  reply[last + 1], reply[last + 2], reply[last + 3] = admitted, verdict, remaining
  reply[last + 4], reply[last + 5], reply[last + 6] = wait, reserved, now
end
for _, policy in ipairs(policies) do
  if policy.allowance > 0 then
    local marks, leased = news_for(policy)
    reply[#reply + 1], reply[#reply + 2] = leased and clock or 0, marks and #marks / 2 or -1
    for at = 1, marks and #marks or 0, 2 do
      reply[#reply + 1], reply[#reply + 2] = marks[at], tonumber(marks[at + 1])
    end
  end
end
return reply
