-- One exchange of one replica about its limits: what it used, gives back and wants.
-- KEYS[i]: a hash for each limit. ARGV: replica, number of replicas, JSON of what is said of each
-- limit, and the time in ms ('' for the server's own). Answers a triple for each limit.
local now
if ARGV[4] ~= '' then
  now = tonumber(ARGV[4])
else
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local me, count = ARGV[1], tonumber(ARGV[2])
local LIFE_MS = 2000

-- Places: a field for each replica, 'held:until'.
local function places(key, said)
  local others = 0
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if fields[i] ~= me then
      local held, till = string.match(fields[i + 1], '(%d+):(%d+)')
      if tonumber(till) > now then
        others = others + tonumber(held)
      else
        redis.call('HDEL', key, fields[i])
      end
    end
  end
  local free = said.limit - others
  local held = math.max(said.in_use, math.min(said.want, free))
  redis.call('HSET', key, me, string.format('%d:%d', held, now + LIFE_MS))
  redis.call('PEXPIRE', key, 2 * LIFE_MS)
  return {held, others + held, 0}
end

-- Of replicas whose last doings no longer count nothing is kept: whenever another one comes, for a
-- window that is always in use never expires.
local function forget_the_gone(key, oldest)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 5) == 'last:' then
      local counts = false
      for each in pairs(cjson.decode(redis.call('HGET', key, field)).changes) do
        counts = counts or tonumber(each) >= oldest
      end
      if not counts then
        redis.call('HDEL', key, field)
      end
    end
  end
end

-- A window: 'total', 'oldest' slot, an amount for each slot that counts, and for each replica what
-- was done the last time that it spoke: undone where it never heard the answer, for then it tells
-- all of it again.
local function window(key, said)
  local slot = math.floor(now / said.slot_ms)
  local total = tonumber(redis.call('HGET', key, 'total') or '0')
  local oldest = tonumber(redis.call('HGET', key, 'oldest') or tostring(slot))
  while oldest <= slot - said.slots do
    local gone = redis.call('HGET', key, oldest)
    if gone then
      total = total - tonumber(gone)
      redis.call('HDEL', key, oldest)
    end
    oldest = oldest + 1
  end
  local before = redis.call('HGET', key, 'last:' .. me)
  if before then
    before = cjson.decode(before)
    -- A higher number than this telling's is of another who tells by the same name: of the limit
    -- as it was before it was changed, or of a process that is gone.
    if before.number > said.heard and before.number <= said.number then
      for each, change in pairs(before.changes) do
        if tonumber(each) >= oldest then
          redis.call('HINCRBY', key, each, -change)
          total = total - change
        end
      end
    end
  else
    forget_the_gone(key, oldest)
  end
  local changes = {}
  for each, back in pairs(said.backs) do
    local leased = tonumber(redis.call('HGET', key, each) or '0')
    local less = math.min(back, leased)
    if less > 0 and tonumber(each) >= oldest then
      redis.call('HINCRBY', key, each, -less)
      total = total - less
      changes[each] = -less
    end
  end
  local free = said.limit - total - said.owed
  local given = 0
  if said.want > 0 and free > 0 then
    local part = math.max(math.ceil(free / count), math.min(free, said.least))
    given = math.min(said.want, part)
  end
  if given + said.owed > 0 then
    redis.call('HINCRBY', key, slot, given + said.owed)
    total = total + given + said.owed
    local this = string.format('%d', slot)
    changes[this] = (changes[this] or 0) + given + said.owed
  end
  local frees_in = 0
  local lacking = said.least - (said.limit - total + given)
  if lacking > 0 then
    frees_in = said.slots * said.slot_ms
    for each = oldest, slot do
      lacking = lacking - tonumber(redis.call('HGET', key, each) or '0')
      if lacking <= 0 then
        frees_in = (each + said.slots) * said.slot_ms - now
        break
      end
    end
  end
  local done = cjson.encode({number = said.number, changes = changes})
  redis.call('HSET', key, 'total', total, 'oldest', oldest, 'last:' .. me, done)
  redis.call('PEXPIRE', key, (said.slots + 2) * said.slot_ms)
  return {given, total, frees_in}
end

local answers = {}
for i, said in ipairs(cjson.decode(ARGV[3])) do
  answers[i] = said.slots and window(KEYS[i], said) or places(KEYS[i], said)
end
return {now, answers}
