"""What the scripts have in common, in Lua: records, groups, and the line.

The state of a lock is four keys, none of which ever expires by itself:

- `holders`: hold id -> token, since, proven, and the owner: session, mode,
  lease, takeover, meta
- `queue`: a list of hold ids, in the order of their arrival
- `waiters`: hold id -> since, number of locks, length of the wish, the wish
  (limit, fence, and the owner-to-be), and the names of the locks
- `fence`: the last fencing token

`@NUMSUB` and `@PUBLISH` stand for the commands of the dialect.
"""

from __future__ import annotations

LUA_GRANT = """
local now, moment
local function look_at_clock()
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
  moment = time[1] .. string.sub('00000' .. time[2], -6)
end

local function is_alive(sid)
  return redis.call('PUBSUB', '@NUMSUB', channel(sid))[2] > 0
end

-- Larger than every token before, also if all data were lost since
local function next_token(fence_key, fence)
  if fence ~= '1' then return '0' end
  local last = redis.call('SET', fence_key, moment, 'GET')
  last = last and tonumber(last)
  if not last or last < now then return moment end
  local token = string.format('%.0f', last + 1)
  redis.call('SET', fence_key, token)
  return token
end

-- From now on this is a holder; returns its token
local function let_in(holders_key, fence_key, hid, fence, owner)
  local token = next_token(fence_key, fence)
  redis.call('HSET', holders_key, hid,
    token .. ' ' .. moment .. ' ' .. moment .. ' ' .. owner)
  return token
end
"""

LUA_RECORDS = """
local HOLDER =
  '^(%S+) (%S+) (%S+) ((%S+) (%S+) (%S+) (%S+) (.*))$'
local function holder_record(record)
  local h = {text = record}
  h.token, h.since, h.proven, h.owner, h.sid, h.mode, h.lease, h.takeover,
    h.meta = string.match(record, HOLDER)
  return h
end

local function lives(h)
  return (h.lease == '0' or now < h.proven + h.lease)
    and (h.takeover == 's' or is_alive(h.sid))
end

local WISH = '^(%S+) (%S+) ((%S+) (%S+) .*)$'
local function wish_of(text)
  local w = {text = text}
  w.limit, w.fence, w.owner, w.sid, w.mode = string.match(text, WISH)
  return w
end

local function waiter_record(record)
  local since, number, size, at =
    string.match(record, '^(%S+) (%S+) (%S+) ()')
  local w = wish_of(string.sub(record, at, at + size - 1))
  w.since, w.number, w.bases_at = since, tonumber(number), at + size
  return w
end

local function tell(sid, text)
  redis.call('@PUBLISH', channel(sid), text)
end

local function tell_grant(sid, hid, tokens)
  tell(sid, 'grant ' .. hid .. ' ' .. tokens .. ' ' .. moment)
end
"""

LUA_RENEWAL = """
-- Whoever is proven to be there holds for one more lease
local function renew(holders_key, hid, h)
  if h.lease ~= '0' then
    redis.call('HSET', holders_key, hid,
      h.token .. ' ' .. h.since .. ' ' .. moment .. ' ' .. h.owner)
  end
end
"""

LUA_GROUPS = """
local groups, order = {}, {}

local function count(g, mode)
  g.number = g.number + 1
  if mode == 'x' then g.exclusive = true end
  if mode == 'p' then g.permits = g.permits + 1 end
end

-- One lock with its holders; those that are dead lose their place here
local function group(base, own)
  if groups[base] then return groups[base] end
  local g = {base = base, holders_key = base .. ':holders',
    queue_key = base .. ':queue', waiters_key = base .. ':waiters',
    fence_key = base .. ':fence',
    number = 0, exclusive = false, permits = 0, held = {}, lapsed = {}}
  groups[base] = g
  order[#order + 1] = g
  local flat = redis.call('HGETALL', g.holders_key)
  for i = 1, #flat, 2 do
    local hid, h = flat[i], holder_record(flat[i + 1])
    if lives(h) then
      g.held[hid] = h
      count(g, h.mode)
    else
      redis.call('HDEL', g.holders_key, hid)
      g.lapsed[hid] = true
      if hid ~= own then tell(h.sid, 'lost ' .. hid) end
    end
  end
  return g
end

local function groups_of_keys(own)
  local wanted = {}
  for i = 1, #KEYS, 4 do
    wanted[#wanted + 1] = group(string.sub(KEYS[i], 1, -9), own)
  end
  return wanted
end

local function fits(g, w)
  if g.exclusive then return false end
  if w.mode == 'x' then return g.number == 0 end
  return w.mode == 's' or g.permits < tonumber(w.limit)
end

local function all_fit(wanted, w)
  for _, g in ipairs(wanted) do
    if not fits(g, w) then return false end
  end
  return true
end

local function grant(wanted, hid, w)
  local tokens = {}
  for i, g in ipairs(wanted) do
    tokens[i] = let_in(g.holders_key, g.fence_key, hid, w.fence, w.owner)
    count(g, w.mode)
    g.held[hid] = holder_record(redis.call('HGET', g.holders_key, hid))
  end
  return tokens
end

-- The locks that a waiter wants, all of them
local function groups_of_waiter(record, w)
  local wanted, at = {}, w.bases_at
  for i = 1, w.number do
    local length, start = string.match(record, '^(%d+):()', at)
    wanted[i] = group(string.sub(record, start, start + length - 1))
    at = start + length
  end
  return wanted
end

local function dequeue(g, hid)
  if redis.call('HDEL', g.waiters_key, hid) == 1 then
    redis.call('LREM', g.queue_key, 1, hid)
  end
end

-- Grant to the head of the line while it fits; whether anything moved
local function pump(g)
  local moved = false
  while true do
    local hid = redis.call('LINDEX', g.queue_key, 0)
    if not hid then return moved end
    local record = redis.call('HGET', g.waiters_key, hid)
    local w = record and waiter_record(record)
    local wanted = w and groups_of_waiter(record, w) or {}
    local is_gone = not w or not is_alive(w.sid)
    if not is_gone and not all_fit(wanted, w) then return moved end
    redis.call('LPOP', g.queue_key)
    redis.call('HDEL', g.waiters_key, hid)
    for _, other in ipairs(wanted) do dequeue(other, hid) end
    if not is_gone then
      tell_grant(w.sid, hid, table.concat(grant(wanted, hid, w), ','))
    end
    moved = true
  end
end

-- Whoever wants several locks ties their lines together
local function settle()
  local moved
  repeat
    moved = false
    local i = 1
    while i <= #order do
      moved = pump(order[i]) or moved
      i = i + 1
    end
  until #order == 1 or not moved
end

-- 'all': we hold everything we want, and it is renewed; 'some' is nothing
local function renewed(wanted, hid)
  local tokens, lapsed = {}, false
  for _, g in ipairs(wanted) do
    local h = g.held[hid]
    if h then tokens[#tokens + 1] = h.token end
    lapsed = lapsed or g.lapsed[hid]
  end
  if #tokens == #wanted then
    for _, g in ipairs(wanted) do renew(g.holders_key, hid, g.held[hid]) end
    return 'all', tokens
  end
  return (lapsed or #tokens > 0) and 'some' or 'none'
end

local function forget(wanted, hid)
  for _, g in ipairs(wanted) do
    if g.held[hid] then
      redis.call('HDEL', g.holders_key, hid)
      groups[g.base] = nil
    end
    dequeue(g, hid)
  end
  order = {}
  for _, g in ipairs(wanted) do
    local again = groups[g.base]
    if again then order[#order + 1] = again else group(g.base) end
  end
  settle()
end
"""
