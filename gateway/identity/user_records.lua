-- What the scripts on users share: user records and the indexes that lead to them.
--
-- Before this stands `local USER = ARGV[1]`, what the names of user records begin with
-- ({prefix}:user:). The record is the truth, an index only leads to it: one that leads to nobody,
-- or to a user who has another value there, counts as none.

local function normal_email(email)
  return string.lower((string.gsub(email, '^%s*(.-)%s*$', '%1')))
end

-- The id of the user to whom `index` leads, if `field` of the record is `value`, or empty.
local function indexed(index, field, value)
  local id = redis.call('GET', index)
  if not id or redis.call('EXISTS', USER .. id) == 0 then
    return nil
  end
  local found = redis.call('HGET', USER .. id, field)
  if not found or found == '' or found == value then
    return id
  end
  if field == 'email' and normal_email(found) == value then
    return id
  end
  return nil
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

-- Sets `field` if it is empty; '' is no value.
local function fill(id, field, value)
  local found = redis.call('HGET', USER .. id, field)
  if value ~= '' and (not found or found == '') then
    redis.call('HSET', USER .. id, field, value)
    return true
  end
  return false
end

-- A field's number; 0 for what is none.
local function number_in(id, field)
  return tonumber(redis.call('HGET', USER .. id, field) or '') or 0
end
