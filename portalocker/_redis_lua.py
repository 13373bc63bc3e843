"""What the server decides, in Lua: who holds, who is next, with which token.

Each script is atomic and may be repeated with the same hold id. The state of
a lock is four keys, none of which ever expires by itself:

- `holders`: hold id -> session, mode, token, since, deadline, lease,
  takeover, meta
- `queue`: hold ids in the order of their arrival
- `waiters`: hold id -> session, mode, limit, since, lease, takeover, fence,
  meta, and the locks it wants
- `fence`: the last fencing token

`@NUMSUB` and `@PUBLISH` stand for the commands of the dialect.
"""

from __future__ import annotations

LUA_PRELUDE = """
local function digits(number) return string.format('%.0f', number) end

local clock
local function now()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000000 + time[2]
  end
  return clock
end

local sessions = {}
local function is_alive(sid)
  if sessions[sid] == nil then
    local count = redis.call('PUBSUB', '@NUMSUB', channel(sid))[2]
    sessions[sid] = tonumber(count) > 0
  end
  return sessions[sid]
end

local function tell(sid, text)
  redis.call('@PUBLISH', channel(sid), text)
end
"""

LUA_RECORDS = """
local HOLDER = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$'
local function holder_record(record)
  local sid, mode, token, since, deadline, lease, takeover, meta =
    string.match(record, HOLDER)
  return {sid = sid, mode = mode, token = token, since = since,
    deadline = tonumber(deadline), lease = tonumber(lease),
    takeover = takeover, meta = meta}
end

local function lives(h)
  return (h.lease == 0 or now() < h.deadline)
    and (h.takeover == 's' or is_alive(h.sid))
end

local function put(g, hid, h)
  redis.call('HSET', g.holders_key, hid, table.concat({h.sid, h.mode,
    h.token, h.since, digits(h.deadline), digits(h.lease), h.takeover,
    h.meta}, ' '))
end

-- Whoever is proven to be there holds for one more lease
local function renew(g, hid, h)
  if h.lease > 0 then
    h.deadline = now() + h.lease
    put(g, hid, h)
  end
end
"""

LUA_GROUPS = """
local groups, order = {}, {}

local function count(g, h)
  g.number = g.number + 1
  if h.mode == 'x' then g.exclusive = true end
  if h.mode == 'p' then g.permits = g.permits + 1 end
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
      count(g, h)
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

local function fits(g, mode, limit)
  if g.exclusive then return false end
  if mode == 'x' then return g.number == 0 end
  return mode == 's' or g.permits < limit
end

local function all_fit(wanted, mode, limit)
  for _, g in ipairs(wanted) do
    if not fits(g, mode, limit) then return false end
  end
  return true
end

local function next_token(g, fence)
  if fence ~= '1' then return '0' end
  local last = tonumber(redis.call('GET', g.fence_key) or 0) or 0
  local token = digits(math.max(last + 1, now()))
  redis.call('SET', g.fence_key, token)
  return token
end

local function grant(wanted, hid, w)
  local tokens = {}
  for _, g in ipairs(wanted) do
    local h = {sid = w.sid, mode = w.mode, token = next_token(g, w.fence),
      since = digits(now()), deadline = now() + w.lease, lease = w.lease,
      takeover = w.takeover, meta = w.meta}
    put(g, hid, h)
    g.held[hid] = h
    count(g, h)
    tokens[#tokens + 1] = h.token
  end
  return tokens
end

local WAITER = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%d+) ()'
local function waiter_record(record)
  local sid, mode, limit, since, lease, takeover, fence, size, at =
    string.match(record, WAITER)
  local w = {sid = sid, mode = mode, limit = tonumber(limit), since = since,
    lease = tonumber(lease), takeover = takeover, fence = fence,
    meta = string.sub(record, at, at + size - 1), bases = {}}
  at = at + size
  while at <= #record do
    local length, start = string.match(record, '^(%d+):()', at)
    w.bases[#w.bases + 1] = string.sub(record, start, start + length - 1)
    at = start + length
  end
  return w
end

local function enqueue(wanted, hid, w)
  local words = {w.sid, w.mode, digits(w.limit), digits(now()),
    digits(w.lease), w.takeover, w.fence, #w.meta, w.meta}
  local record = table.concat(words, ' ')
  for _, g in ipairs(wanted) do
    record = record .. #g.base .. ':' .. g.base
  end
  for _, g in ipairs(wanted) do
    if not redis.call('ZSCORE', g.queue_key, hid) then
      local last = redis.call('ZREVRANGE', g.queue_key, 0, 0, 'WITHSCORES')
      local ticket = (tonumber(last[2]) or 0) + 1
      redis.call('ZADD', g.queue_key, digits(ticket), hid)
      redis.call('HSET', g.waiters_key, hid, record)
    end
  end
end

local function dequeue(g, hid)
  if redis.call('ZREM', g.queue_key, hid) == 1 then
    redis.call('HDEL', g.waiters_key, hid)
  end
end

-- Grant to the head of the line while it fits; whether anything moved
local function pump(g)
  local moved = false
  while true do
    local hid = redis.call('ZRANGE', g.queue_key, 0, 0)[1]
    if not hid then return moved end
    local record = redis.call('HGET', g.waiters_key, hid)
    local w = record and waiter_record(record)
    local wanted = {}
    for i, base in ipairs(w and w.bases or {}) do wanted[i] = group(base) end
    local is_gone = not w or not is_alive(w.sid)
    if not is_gone and not all_fit(wanted, w.mode, w.limit) then
      return moved
    end
    dequeue(g, hid)
    for _, other in ipairs(wanted) do dequeue(other, hid) end
    if not is_gone then
      local tokens = grant(wanted, hid, w)
      tell(w.sid, table.concat({'grant', hid, table.concat(tokens, ','),
        digits(now())}, ' '))
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
    for _, g in ipairs(wanted) do renew(g, hid, g.held[hid]) end
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

# The usual case, before anything else is even defined: nobody holds, nobody
# waits
LUA_ACQUIRE_AT_ONCE = """
local hid = ARGV[1]
local sid, mode, limit, lease, takeover, may_wait, fair, fence, meta =
  string.match(ARGV[2],
    '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
lease = tonumber(lease)
if not is_alive(sid) then return {-1} end
if #KEYS == 4 and redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  local token, since = '0', now()
  if fence == '1' then
    local last = tonumber(redis.call('GET', KEYS[4]) or 0) or 0
    token = digits(math.max(last + 1, since))
    redis.call('SET', KEYS[4], token)
  end
  redis.call('HSET', KEYS[1], hid, table.concat({sid, mode, token,
    digits(since), digits(since + lease), digits(lease), takeover, meta},
    ' '))
  return {1, token}
end
"""

LUA_ACQUIRE = """
local w = {sid = sid, mode = mode, limit = tonumber(limit), lease = lease,
  takeover = takeover, fence = fence, meta = meta}
local is_fair = fair == '1'
local wanted = groups_of_keys(hid)
local state, tokens = renewed(wanted, hid)
if state == 'all' then return {1, unpack(tokens)} end
if state == 'some' then forget(wanted, hid) return {-2} end
local is_line, is_held = false, false
for _, g in ipairs(wanted) do
  is_held = is_held or g.number > 0
  is_line = is_line or redis.call('EXISTS', g.queue_key) == 1
end
if is_line and (is_fair or not is_held) then
  settle()
  state, tokens = renewed(wanted, hid)
  if state == 'all' then return {1, unpack(tokens)} end
  is_line = false
  for _, g in ipairs(wanted) do
    is_line = is_line or redis.call('EXISTS', g.queue_key) == 1
  end
end
if (not is_fair or not is_line) and all_fit(wanted, w.mode, w.limit) then
  if is_line then
    for _, g in ipairs(wanted) do dequeue(g, hid) end
  end
  return {1, unpack(grant(wanted, hid, w))}
end
local rank = -1
if may_wait == '1' then
  enqueue(wanted, hid, w)
  rank = redis.call('ZRANK', wanted[1].queue_key, hid)
end
-- A grant that was told before this moment is void
local answer = {0, rank, digits(now())}
for _, g in ipairs(wanted) do
  for other, h in pairs(g.held) do
    if #answer < 11 then
      answer[#answer + 1] = h.mode
      answer[#answer + 1] = h.since
      answer[#answer + 1] = h.token
      answer[#answer + 1] = h.meta
    end
  end
end
return answer
"""

# 1: released; 2: it was not there, and nobody came after us: this is the
# second time we ask; 0: it was lost
LUA_RELEASE = """
local hid, released, last, has_line = ARGV[1], 0, 0, false
for i = 1, #KEYS, 4 do
  if redis.call('HDEL', KEYS[i], hid) == 1 then
    released = released + 1
  elseif redis.call('ZREM', KEYS[i + 1], hid) == 1 then
    redis.call('HDEL', KEYS[i + 2], hid)
  end
  if redis.call('EXISTS', KEYS[i + 1]) == 1 then has_line = true end
end
if released * 4 == #KEYS and not has_line then return 1 end
"""

LUA_RELEASE_AND_WAKE = """
if has_line then
  groups_of_keys()
  settle()
end
if released * 4 == #KEYS then return 1 end
for i = 4, #KEYS, 4 do
  if redis.call('GET', KEYS[i]) ~= ARGV[1 + i / 4] then return 0 end
end
return 2
"""

LUA_CANCEL = """
local hid = ARGV[1]
local wanted = groups_of_keys(hid)
local state, tokens = renewed(wanted, hid)
if state == 'all' then return {1, unpack(tokens)} end
forget(wanted, hid)
return {0}
"""

# Answers of a beat are many: one for each hold of the session
LUA_BEAT = """
local sid, answers = ARGV[1], {}
for i, key in ipairs(KEYS) do
  local hid = ARGV[i + 1]
  local record = redis.call('HGET', key, hid)
  local h = record and holder_record(record)
  if h and h.sid == sid and is_alive(sid) and lives(h) then
    renew({holders_key = key}, hid, h)
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
"""

LUA_EVICT = """
local hid, sid = ARGV[1], ARGV[2]
local record = redis.call('HGET', KEYS[1], hid)
if not record or holder_record(record).sid ~= sid then return 0 end
redis.call('HDEL', KEYS[1], hid)
tell(sid, 'lost ' .. hid)
groups_of_keys()
settle()
return 1
"""

LUA_WHO = """
local answer = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local h = holder_record(flat[i + 1])
  if lives(h) then
    answer[#answer + 1] = {'holder', flat[i], h.sid, h.mode, h.token,
      h.since, h.meta}
  end
end
for _, hid in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local record = redis.call('HGET', KEYS[3], hid)
  local w = record and waiter_record(record)
  if w and is_alive(w.sid) then
    answer[#answer + 1] = {'waiter', hid, w.sid, w.mode, '0', w.since, w.meta}
  end
end
return {digits(now()), answer}
"""
