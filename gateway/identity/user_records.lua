-- What the scripts on users share of all records and the indexes that lead to them.
--
-- Before this stand user_record.lua and `local USER = ARGV[1]`, what the names of user records
-- begin with ({prefix}:user:). The record is the truth, an index only leads to it: one that leads to
-- nobody, or to a user who has another value there, counts as none.

-- The id of the user to whom `index` leads.
local function indexed(index, field, value)
  local id = redis.call('GET', index)
  return id and fits(USER .. id, field, value) and id or nil
end

-- The next id that no record has. Billing may have brought some of its own.
local function next_id()
  local last = USER .. 'last_id'
  local id = tonumber(redis.call('GET', last) or '0')
  repeat
    id = id + 1
  until redis.call('EXISTS', USER .. string.format('%.0f', id)) == 0
  local text = string.format('%.0f', id)
  redis.call('SET', last, text)
  return text
end

local function create(id, now)
  redis.call('HSET', USER .. id, 'id', id, 'is_vip', '0', 'created_at', now, 'updated_at', now)
end
