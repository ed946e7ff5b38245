-- A window that slides, exactly, whatever its requests and however its log is kept. Times of a busy
-- bucket are kept in units of some hundred milliseconds; requests admitted from a reservation came
-- at some time between its granting and its giving back. Either way a run's requests are counted
-- until the last of them has left the window for sure, and one is refused only when the limit is
-- reached without those that may have left. In between, the asker has to wait: either what is
-- reserved is given back, or what is doubtful leaves the window. So both promises are exact: never
-- one too many, never a wrong refusal.

-- The run at `at` of the log: its number, its doubt, the time to the next one, where that begins.
local function run_at(log, at)
  local head, doubt, gap = 0, 0, 1
  head, at = unpack_at(log, at)
  if head % 2 == 1 then
    doubt, at = unpack_at(log, at)
  end
  if head % 4 >= 2 then
    gap, at = unpack_at(log, at)
  end
  return floor(head / 4), doubt, gap, at
end

-- Goes through the runs, the oldest first: their time, number and doubt, and where the next begins.
local function runs(state)
  local time, next_time, at = 0, state.oldest, 1
  return function()
    if time == state.newest then
      return nil
    end
    time = next_time
    if time == state.newest then
      return time, state.last, state.last_doubt, at
    end
    local number, doubt, gap = 0, 0, 0
    number, doubt, gap, at = run_at(state.log, at)
    next_time = time + gap
    return time, number, doubt, at
  end
end

local function add(state, now, number, doubt)
  if state.count == 0 then
    state.oldest, state.doubt, state.log = now, 0, ''
    state.last, state.last_doubt = 0, 0
  elseif now > state.newest then
    local gap, head, rest = now - state.newest, 4 * state.last, ''
    if state.last_doubt > 0 then
      head, rest = head + 1, pack(state.last_doubt)
    end
    if gap > 1 then
      head, rest = head + 2, rest .. pack(gap)
    end
    state.log = state.log .. pack(head) .. rest
    state.last, state.last_doubt = 0, 0
  end
  state.newest = now
  state.count = state.count + number
  state.last = state.last + number
  state.last_doubt = math.max(state.last_doubt, doubt)
  state.doubt = math.max(state.doubt, doubt)
end

-- Drop the runs at `time` and before.
local function drop_runs(state, time)
  local rest = 1
  for at_time, number, _, next_at in runs(state) do
    if at_time > time then
      state.oldest = at_time
      break
    end
    state.count = state.count - number
    rest = next_at
  end
  if state.count == 0 then
    state.oldest, state.newest, state.log, state.last, state.last_doubt = 0, 0, '', 0, 0
  else
    state.log = sub(state.log, rest)
  end
end

-- How many of the log may have come at `time` or before.
local function doubtful(state, time)
  local sum = 0
  for at_time, number, doubt in runs(state) do
    if at_time - state.doubt > time then
      break
    elseif at_time - doubt <= time then
      sum = sum + number
    end
  end
  return sum
end

-- ms for which at least `needed` of those that have not left by `time` will stay in the window.
local function until_free(state, policy, now, time, needed)
  for at_time, number, doubt in runs(state) do
    if at_time - doubt > time then
      needed = needed - number
      if needed <= 0 then
        return math.max(time + 1, at_time - state.doubt) * state.unit + policy.window - now
      end
    end
  end
  return policy.window -- heavier than the whole limit
end

-- A log in other units than the policy's (its numbers were changed) becomes one run.
local function convert(state, unit)
  if state.count > 0 then
    local first = floor((state.oldest - state.doubt) * state.unit / unit)
    local last = floor(((state.newest + 1) * state.unit - 1) / unit)
    state.oldest, state.newest, state.log = last, last, ''
    state.last, state.last_doubt, state.doubt = state.count, last - first, last - first
  end
  state.unit = unit
end

local function decide_sliding(policy, text, asked, weight, granted_at, size, used)
  local window, unit = policy.window, policy.unit
  local state, now = read(text, unit), clock
  if state.unit ~= unit then
    convert(state, unit)
  end
  if state.count > 0 and now < state.newest * unit then
    if state.newest * unit - now > CLOCK_SLACK then
      state = new_state(unit)
    else
      now = state.newest * unit
    end
  end
  local time = floor(now / unit)
  drop_reservations(state, now, granted_at, size)
  if state.count > 0 then
    drop_runs(state, floor((now - window + 1) / unit) - 1)
  end
  local told = size == 0 and used or 0
  local busy = asked + told > 1 or (state.count > 0 and (time - state.newest) * unit <= valid)
  if used > 0 then
    add(state, time, used, math.max(0, time - floor(granted_at / unit)))
  end

  local free = untold(policy, state.count + state.reserved + asked * weight)
  local admitted = room_for(state, policy, asked, weight, free)
  if admitted > 0 then
    add(state, time, admitted * weight, 0)
  end
  local verdict, wait, reserved = ADMITTED, 0, 0
  if admitted < asked then
    local gone = floor((now - window) / unit)
    local certain = state.count - doubtful(state, gone)
    if certain + weight > policy.requests then
      verdict = EXCEEDED
      wait = until_free(state, policy, now, gone, certain + weight - policy.requests)
    else
      verdict = UNDECIDED
      if state.reserved + free == 0 then
        wait = (state.oldest + 1) * unit - 1 + window - now
      end
    end
  else
    if busy and asked + told > 0 and 2 * (state.count + state.reserved + policy.grant) <= policy.requests
    then
      reserved = policy.grant
    end
    if state.count > 0 then
      wait = state.oldest * unit + window - now
    end
  end
  local remaining = math.max(0, policy.requests - state.count - state.reserved)
  if verdict ~= ADMITTED then
    remaining = 0
  end
  if reserved > 0 then
    reserve(state, now, reserved)
  end
  local keep = 0
  if state.count > 0 or #state.reservations > 0 then
    keep = window + unit - 1
  end
  return keep > 0 and write(state), keep, admitted, verdict, remaining, wait, reserved, now
end
