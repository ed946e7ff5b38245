-- Counts requests in exact sliding windows, one per bucket, and blocks a bucket that exceeds its
-- limit. One call serves many buckets. limiter.py is the only caller; `clock` is from clock.lua.
--
-- KEYS, for each bucket:  its window, its block
-- ARGV  1 requests per window      2 window, ms       3 block, ms (0: none)
--       4 size of a reservation    5 its validity, ms 6 ms after which a lost one is forgotten
--       then, for each bucket:
--         asked       how many requests wait for an answer
--         granted_at  the reservation that the caller gives back: when it was granted (0: none),
--         size        how many it was for,
--         used        and how many requests were admitted from it
-- Returns, for each bucket:
--         admitted    how many of those that asked
--         verdict     on the others, see below
--         remaining   of the quota, when all that is reserved by others gets used
--         wait        ms: BLOCKED, until the block ends; EXCEEDED, for at least how long nobody
--                     else can be admitted; otherwise, until the oldest request leaves the window
--         reserved    how many further requests the caller may admit on its own
--         now         ms since 1970: when this was decided, and the reservation granted
--
-- What is kept. A log of runs: so many requests admitted at such a time. Requests admitted from a
-- reservation came at some time between its granting and its giving back. Such a run stands in
-- the log at the later time, with the distance to the earlier one as its *doubt*, ms. A
-- reservation that has not been given back counts in full.
--
-- So what is counted is never less than what was admitted in the window, and a request is
-- admitted only when that leaves room. It is refused only when the limit is reached without
-- anything doubtful. In between, it has to wait: either what is reserved is given back, or what
-- is doubtful leaves the window. Then both promises are exact: never one too many, never a wrong
-- refusal.
--
-- A window is a sequence of numbers, each in base 128, least digit first, all but the last digit
-- with 128 added:
--   time of the oldest run, time from there to the newest, requests in the log, largest doubt,
--   number of reservations, for each: when granted, size; then the runs, oldest first, each:
--   time since the run before (not in the first), 2 * requests (+ 1 and the doubt, if there is any)
-- A block is the time when it ends, as decimal text.

local ADMITTED, EXCEEDED, UNDECIDED, BLOCKED = 0, 1, 2, 3
local CLOCK_SLACK = 1000 -- ms that the clock may step back before the windows are forgotten

local byte, char, sub, floor = string.byte, string.char, string.sub, math.floor
local requests, window, block = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local grant, valid, forget = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function pack(number)
  local text = ''
  while number >= 128 do
    text = text .. char(number % 128 + 128)
    number = floor(number / 128)
  end
  return text .. char(number)
end

-- The number at `at`, and where the next one begins.
local function unpack_at(text, at)
  local number, scale = 0, 1
  local digit = byte(text, at)
  while digit >= 128 do
    number = number + (digit - 128) * scale
    scale = scale * 128
    at = at + 1
    digit = byte(text, at)
  end
  return number + digit * scale, at + 1
end

-- The requests of the run at `at`, their doubt, and where the next run begins.
local function run_at(log, at)
  local weight, doubt = 0, 0
  weight, at = unpack_at(log, at)
  if weight % 2 == 1 then
    doubt, at = unpack_at(log, at)
  end
  return floor(weight / 2), doubt, at
end

local function read(text)
  local state = {oldest = 0, newest = 0, count = 0, doubt = 0, reserved = 0, reservations = {}}
  state.log = ''
  if not text then
    return state
  end
  local at, span, number = 1, 0, 0
  state.oldest, at = unpack_at(text, at)
  span, at = unpack_at(text, at)
  state.newest = state.oldest + span
  state.count, at = unpack_at(text, at)
  state.doubt, at = unpack_at(text, at)
  number, at = unpack_at(text, at)
  for i = 1, number do
    local granted_at, size = 0, 0
    granted_at, at = unpack_at(text, at)
    size, at = unpack_at(text, at)
    state.reservations[i] = {granted_at, size}
    state.reserved = state.reserved + size
  end
  state.log = sub(text, at)
  return state
end

local function write(key, state)
  if state.count == 0 and #state.reservations == 0 then
    redis.call('DEL', key)
    return
  end
  local text = pack(state.oldest) .. pack(state.newest - state.oldest) .. pack(state.count)
  text = text .. pack(state.doubt) .. pack(#state.reservations)
  for _, reservation in ipairs(state.reservations) do
    text = text .. pack(reservation[1]) .. pack(reservation[2])
  end
  redis.call('SET', key, text .. state.log, 'PX', window)
end

local function add(state, now, number, doubt)
  local run = pack(2 * number)
  if doubt > 0 then
    run = pack(2 * number + 1) .. pack(doubt)
  end
  if state.count == 0 then
    state.oldest, state.doubt, state.log = now, 0, run
  else
    state.log = state.log .. pack(now - state.newest) .. run
  end
  state.newest = now
  state.count = state.count + number
  if doubt > state.doubt then
    state.doubt = doubt
  end
end

-- Take out the reservations that are given back or lost (their worker is gone).
local function drop_reservations(state, now, granted_at, size)
  local kept, reserved = {}, 0
  for _, reservation in ipairs(state.reservations) do
    if reservation[1] == granted_at and reservation[2] == size then
      granted_at = 0 -- two of the same time and size are alike: take one
    elseif now - reservation[1] < forget then
      kept[#kept + 1] = reservation
      reserved = reserved + reservation[2]
    end
  end
  state.reservations, state.reserved = kept, reserved
end

local function drop_runs_before(state, now)
  local at = 1
  while state.count > 0 and now - state.oldest >= window do
    local number, _, gap = 0, 0, 0
    number, _, at = run_at(state.log, at)
    state.count = state.count - number
    if state.count > 0 then
      gap, at = unpack_at(state.log, at)
      state.oldest = state.oldest + gap
    end
  end
  if at > 1 then
    state.log = sub(state.log, at)
  end
end

-- How many requests of the log may have left the window already.
local function doubtful(state, now)
  local number, time, at, left = 0, state.oldest, 1, state.count
  while left > 0 and now - (time - state.doubt) >= window do
    local size, doubt, gap = 0, 0, 0
    size, doubt, at = run_at(state.log, at)
    if now - (time - doubt) >= window then
      number = number + size
    end
    left = left - size
    if left > 0 then
      gap, at = unpack_at(state.log, at)
      time = time + gap
    end
  end
  return number
end

local function decide(window_key, block_key, text, asked, granted_at, size, used)
  local state, now = read(text), clock
  if now < state.newest then
    if state.newest - now > CLOCK_SLACK then
      state = read(false)
    else
      now = state.newest
    end
  end
  drop_reservations(state, now, granted_at, size)
  drop_runs_before(state, now)
  local busy = asked > 1 or (state.count > 0 and now - state.newest <= valid)
  if used > 0 then
    add(state, now, used, math.max(0, now - granted_at))
  end

  local admitted = math.max(0, math.min(asked, requests - state.count - state.reserved))
  if admitted > 0 then
    add(state, now, admitted, 0)
  end
  local remaining = math.max(0, requests - state.count - state.reserved)

  if admitted < asked then
    if state.count - doubtful(state, now) < requests then
      write(window_key, state)
      return admitted, UNDECIDED, 0, state.oldest + window - now, 0, now
    end
    if block == 0 then
      write(window_key, state)
      -- No request is older, not even a doubtful one: a reservation is granted with an admission.
      return admitted, EXCEEDED, 0, state.oldest + window - now, 0, now
    end
    redis.call('SET', block_key, string.format('%.0f', now + block), 'PX', block)
    if block >= window then
      redis.call('DEL', window_key) -- empty by the time the block ends
    else
      write(window_key, state)
    end
    return admitted, EXCEEDED, 0, block, 0, now
  end

  local reserved = 0
  if busy and asked > 0 and 2 * (state.count + state.reserved + grant) <= requests then
    reserved = grant
  end
  if reserved > 0 then
    state.reservations[#state.reservations + 1] = {now, reserved}
  end
  write(window_key, state)
  local wait = 0
  if state.count > 0 then
    wait = state.oldest + window - now
  end
  return admitted, ADMITTED, remaining, wait, reserved, now
end

local values = redis.call('MGET', unpack(KEYS))
local reply = {}
for i = 1, #KEYS / 2 do
  local blocked_until = tonumber(values[2 * i] or 0)
  local admitted, verdict, remaining, wait, reserved, now = 0, BLOCKED, 0, 0, 0, clock
  if blocked_until > clock then
    wait = blocked_until - clock
  else
    local at = 3 + 4 * i
    admitted, verdict, remaining, wait, reserved, now = decide(
      KEYS[2 * i - 1], KEYS[2 * i], values[2 * i - 1],
      tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    )
  end
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3] = admitted, verdict, remaining
  reply[at + 4], reply[at + 5], reply[at + 6] = wait, reserved, now
end
return reply
