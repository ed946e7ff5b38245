-- Has an index lead to a user, if it still leads to whom it led when it was read.
--
-- KEYS[1]  {prefix}:user:by:{field}:{value}
-- ARGV[1]  the id that was read, or '' for none
-- ARGV[2]  the new id, or '' to remove the index
-- Returns 1 if done, also by somebody else.

local leads = redis.call('GET', KEYS[1]) or ''
if leads == ARGV[2] then
  return 1
elseif leads ~= ARGV[1] then
  return 0
elseif ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
