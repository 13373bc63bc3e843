"""What the server decides, in Lua: who holds, who is next, with which token.

Each script is atomic and may be repeated with the same hold id. It follows
what `_redis_lua` defines.
"""

from __future__ import annotations

# The usual case, before anything else is even defined: nobody holds, nobody
# waits
LUA_ACQUIRE_AT_ONCE = """
local hid = ARGV[1]
local may_wait, fair, wish, fence, owner, sid = string.match(ARGV[2],
  '^(%S+) (%S+) (%S+ (%S+) ((%S+) .*))$')
if not is_alive(sid) then return {-1} end
look_at_clock()
if #KEYS == 4 and redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  return {1, let_in(KEYS[1], KEYS[4], hid, fence, owner)}
end
"""

# The next usual case: one other holds alone; nobody who waits can come in,
# and we are new in the line, or the first in it
LUA_ACQUIRE_IN_TURN = """
-- Behind everybody who waits; how many they are, or nil if we are there
local function stand_in_line(queue_key, waiters_key, number, bases)
  local record = moment .. ' ' .. number .. ' ' .. #wish .. ' ' .. wish
    .. bases
  if redis.call('HSETNX', waiters_key, hid, record) == 1 then
    return redis.call('RPUSH', queue_key, hid) - 1
  end
end

if #KEYS == 4 and may_wait == '1' then
  local found = redis.call('HGETALL', KEYS[1])
  local h = #found == 2 and found[1] ~= hid and holder_record(found[2])
  if h and h.mode == 'x' and lives(h) then
    local base = string.sub(KEYS[1], 1, -9)
    local rank = stand_in_line(KEYS[2], KEYS[3], 1, #base .. ':' .. base)
    if not rank and redis.call('LINDEX', KEYS[2], 0) == hid then
      rank = 0
    end
    -- Further behind, those before us may be dead
    if rank then return {0, rank, moment, h.text} end
  end
end
"""

LUA_ACQUIRE = """
local function enqueue(wanted)
  local bases = {}
  for i, g in ipairs(wanted) do bases[i] = #g.base .. ':' .. g.base end
  bases = table.concat(bases)
  for _, g in ipairs(wanted) do
    stand_in_line(g.queue_key, g.waiters_key, #wanted, bases)
  end
end

local function has_line(wanted)
  for _, g in ipairs(wanted) do
    if redis.call('EXISTS', g.queue_key) == 1 then return true end
  end
  return false
end

local is_fair, w = fair == '1', wish_of(wish)
local wanted = groups_of_keys(hid)
local state, tokens = renewed(wanted, hid)
if state == 'all' then return {1, unpack(tokens)} end
if state == 'some' then forget(wanted, hid) return {-2} end
local is_line, is_held = has_line(wanted), false
for _, g in ipairs(wanted) do is_held = is_held or g.number > 0 end
if is_line and (is_fair or not is_held) then
  settle()
  state, tokens = renewed(wanted, hid)
  if state == 'all' then return {1, unpack(tokens)} end
  is_line = has_line(wanted)
end
if (not is_fair or not is_line) and all_fit(wanted, w) then
  if is_line then
    for _, g in ipairs(wanted) do dequeue(g, hid) end
  end
  return {1, unpack(grant(wanted, hid, w))}
end
local rank = -1
if may_wait == '1' then
  enqueue(wanted)
  rank = redis.call('LPOS', wanted[1].queue_key, hid)
end
-- A grant that was told before this moment is void
local answer = {0, rank, moment}
for _, g in ipairs(wanted) do
  for other, h in pairs(g.held) do
    if #answer < 5 then answer[#answer + 1] = h.text end
  end
end
return answer
"""

# 1: released; 2: it was not there, and nobody came after us: this is the
# second time we ask; 0: it was lost
LUA_RELEASE = """
local hid, released, heads = ARGV[1], 0, {}
for i = 1, #KEYS, 4 do
  if redis.call('HDEL', KEYS[i], hid) == 1 then
    released = released + 4
  elseif redis.call('HDEL', KEYS[i + 2], hid) == 1 then
    redis.call('LREM', KEYS[i + 1], 1, hid)
  end
  heads[#heads + 1] = redis.call('LINDEX', KEYS[i + 1], 0) or nil
end
if released == #KEYS and #heads == 0 then return 1 end
"""

# The usual case: nobody else holds, and the next in line wants to be alone
LUA_RELEASE_TO_NEXT = """
look_at_clock()
if released == 4 and #KEYS == 4
  and redis.call('EXISTS', KEYS[1]) == 0 then
  local record = redis.call('HGET', KEYS[3], heads[1])
  local w = record and waiter_record(record)
  if w and w.mode == 'x' and w.number == 1 and is_alive(w.sid) then
    redis.call('LPOP', KEYS[2])
    redis.call('HDEL', KEYS[3], heads[1])
    tell_grant(w.sid, heads[1],
      let_in(KEYS[1], KEYS[4], heads[1], w.fence, w.owner))
    return 1
  end
end
"""

LUA_RELEASE_AND_WAKE = """
if #heads > 0 then
  groups_of_keys()
  settle()
end
if released == #KEYS then return 1 end
for i = 4, #KEYS, 4 do
  if redis.call('GET', KEYS[i]) ~= ARGV[1 + i / 4] then return 0 end
end
return 2
"""

LUA_CANCEL = """
look_at_clock()
local hid = ARGV[1]
local wanted = groups_of_keys(hid)
local state, tokens = renewed(wanted, hid)
if state == 'all' then return {1, unpack(tokens)} end
forget(wanted, hid)
return {0}
"""

# Answers of a beat are many: one for each hold of the session
LUA_BEAT = """
look_at_clock()
local sid, answers = ARGV[1], {}
local is_here = is_alive(sid)
for i, key in ipairs(KEYS) do
  local hid = ARGV[i + 1]
  local record = redis.call('HGET', key, hid)
  local h = record and holder_record(record)
  answers[i] = 0
  if h and h.sid == sid and is_here and lives(h) then
    renew(key, hid, h)
    answers[i] = 1
  end
end
return answers
"""

LUA_EVICT = """
look_at_clock()
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
look_at_clock()
local answer = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local h = holder_record(flat[i + 1])
  if lives(h) then
    answer[#answer + 1] = {'holder', flat[i], h.sid, h.mode, h.token,
      h.since, h.meta}
  end
end
for _, hid in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  local record = redis.call('HGET', KEYS[3], hid)
  local w = record and waiter_record(record)
  if w and is_alive(w.sid) then
    local meta = string.match(w.owner, '^%S+ %S+ %S+ %S+ (.*)$')
    answer[#answer + 1] = {'waiter', hid, w.sid, w.mode, '0', w.since, meta}
  end
end
return {moment, answer}
"""
