-- Requests under way. Each worker says how many it has, as a whole number and not as a change, so
-- that nothing adds up wrongly whatever is lost; and says so again before its lease ends. A worker
-- that dies lets go of all it had when its lease does.
-- What is kept, for each worker that has some: its number, how many it has, when it said so (ms).

local function decide_slots(policy, text, asked, _, worker, _, held)
  local kept, others, at = '', 0, 1
  while text and at <= #text do
    local other, number, seen = 0, 0, 0
    other, at = unpack_at(text, at)
    number, at = unpack_at(text, at)
    seen, at = unpack_at(text, at)
    if other ~= worker and clock - seen < policy.unit then
      kept = kept .. pack(other) .. pack(number) .. pack(seen)
      others = others + number
    end
  end
  local admitted = math.max(0, math.min(asked, policy.requests - others - held))
  if held + admitted > 0 then
    kept = kept .. pack(worker) .. pack(held + admitted) .. pack(clock)
  end
  local verdict = admitted < asked and EXCEEDED or ADMITTED
  local remaining = math.max(0, policy.requests - others - held - admitted)
  return kept ~= '' and kept, policy.unit, admitted, verdict, remaining, 0, 0, clock
end
