-- What Redis keeps of one bucket, as numbers in base 128 (least digit first, all but the last with
-- 128 added), so that a busy address takes some 500 bytes:
--   unit of time (ms), oldest time, newest time less the oldest, sum of the log, largest doubt,
--   number of reservations, for each: when granted (ms), size;
--   number and doubt of the newest run; then the older runs, the oldest first, each:
--   4 * number (+ 2 if the next run is more than one unit later, + 1 if there is doubt),
--   the doubt and the time to the next run, where these say so.
-- Terms: a *run* is so many requests (units of weight) admitted at such a time. *Doubt* is how much
-- earlier they may have come. Times and doubts are in units; a run at `t` may be as late as the last
-- millisecond of that unit.

local ADMITTED, EXCEEDED, UNDECIDED, BLOCKED = 0, 1, 2, 3
local CLOCK_SLACK = 1000 -- ms that the clock may step back before what was counted is forgotten
local valid, forget = tonumber(ARGV[1]), tonumber(ARGV[2]) -- ms, of a reservation or a lease
local worker = ARGV[3]

local byte, char, sub, floor = string.byte, string.char, string.sub, math.floor

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

local function new_state(unit)
  return {
    unit = unit, oldest = 0, newest = 0, count = 0, doubt = 0, reserved = 0, reservations = {},
    last = 0, last_doubt = 0, log = '',
  }
end

local function read(text, unit)
  local state = new_state(unit)
  if not text then
    return state
  end
  local at, span, number = 1, 0, 0
  state.unit, at = unpack_at(text, at)
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
  state.last, at = unpack_at(text, at)
  state.last_doubt, at = unpack_at(text, at)
  state.log = sub(text, at)
  return state
end

local function write(state)
  local text = pack(state.unit) .. pack(state.oldest) .. pack(state.newest - state.oldest)
  text = text .. pack(state.count) .. pack(state.doubt) .. pack(#state.reservations)
  for _, reservation in ipairs(state.reservations) do
    text = text .. pack(reservation[1]) .. pack(reservation[2])
  end
  return text .. pack(state.last) .. pack(state.last_doubt) .. state.log
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

local function reserve(state, now, size)
  state.reservations[#state.reservations + 1] = {now, size}
  state.reserved = state.reserved + size
end

-- How many of `asked` requests of this weight there is room for, when so much stays free.
local function room_for(state, policy, asked, weight, free)
  local room = floor((policy.requests - state.count - state.reserved - free) / weight)
  return math.max(0, math.min(asked, room))
end
