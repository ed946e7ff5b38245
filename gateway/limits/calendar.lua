-- A quota by the calendar, in UTC: a count that begins anew with each day or month. Its state has
-- no log: `oldest` is when the period began, `newest` when it was last counted. No reservation
-- outlives its period, so whatever was used of one belongs to the period in which it was granted.

local DAY = 86400000
local LENGTHS = {31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31} -- of the months from March to January
local SPARE_GRANTS = 16 -- of the quota must be left to lend one: nearer to its end everyone asks

-- When the day of `time` began and ends.
local function day_of(time)
  local first = floor(time / DAY) * DAY
  return first, first + DAY
end

-- When the month of `time` began and ends. The civil calendar in years that begin in March, eras of
-- 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
local function month_of(time)
  local days = floor(time / DAY)
  local day_of_era = (days + 719468) % 146097
  local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
    - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * day_of_year + 2) / 153)
  local first = days - (day_of_year - floor((153 * month + 2) / 5))
  local length = LENGTHS[month + 1]
  if not length then -- February, of the next year as people count
    local leap = (year + 1) % 4 == 0 and ((year + 1) % 100 ~= 0 or (year + 1) % 400 == 0)
    length = leap and 29 or 28
  end
  return first * DAY, (first + length) * DAY
end

local PERIODS = {day = day_of, month = month_of}

local function decide_calendar(policy, text, asked, weight, granted_at, size, used)
  local state, now = read(text, 1), clock
  if now < state.oldest and state.oldest - now <= CLOCK_SLACK then
    now = state.oldest
  end
  local first, ends = PERIODS[policy.window](now)
  if state.oldest ~= first then
    state = new_state(1)
    state.oldest = first
  end
  drop_reservations(state, now, granted_at, size)
  if granted_at >= first then
    state.count = state.count + used
  end
  local told = size == 0 and used or 0
  local busy = asked + told > 1 or (state.count > 0 and now - state.newest <= valid)
  policy.ends = ends
  local free = untold(policy, state.count + state.reserved + asked * weight)
  local admitted = room_for(state, policy, asked, weight, free)
  state.count = state.count + admitted * weight
  state.newest = math.max(now, state.newest)

  local verdict, wait, reserved = ADMITTED, ends - now, 0
  local remaining = math.max(0, policy.requests - state.count - state.reserved)
  if admitted < asked then
    remaining = 0
    if state.count + weight > policy.requests then
      verdict = EXCEEDED
    else
      verdict, wait = UNDECIDED, 0
    end
  elseif busy and asked + told > 0 and remaining - free >= SPARE_GRANTS * policy.grant
    and now + valid < ends
  then
    reserved = policy.grant
  end
  if reserved > 0 then
    reserve(state, now, reserved)
  end
  local keep = 0
  if state.count > 0 or #state.reservations > 0 then
    keep = ends - now + forget
  end
  return keep > 0 and write(state), keep, admitted, verdict, remaining, wait, reserved, now
end
