"""What must happen in one step inside Redis: a door says what it used of a tenant's limits, and gets its next part of them.

All keys of a tenant are in one slot of a cluster. Redis' own clock decides, unless a test gives the time.
"""

from __future__ import annotations

_NOW = """
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
"""

# KEYS: the doors (sorted set: when each is forgotten), the format, the key that rows are hashed with. ARGV: time in ms (""),
# door, for how long it is known in ms, the format, this door's key of rows; the first door's is that of all.
# Returns {"ok", number of doors, the key of rows} or {"other", what is there instead of the format}.
HELLO = f"""{_NOW}
local kind = redis.call('TYPE', KEYS[2]).ok
if kind == 'none' then
  redis.call('SET', KEYS[2], ARGV[4])
elseif kind ~= 'string' then
  return {{'other', 'a ' .. kind}}
elseif redis.call('GET', KEYS[2]) ~= ARGV[4] then
  return {{'other', string.sub(redis.call('GET', KEYS[2]), 1, 40)}}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[3])
redis.call('SET', KEYS[3], ARGV[5], 'NX')
return {{'ok', redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[3])}}
"""

# The doors that hold a lease of this key, without those whose lease is over, by name. What can't be read is removed.
# Fields: "door:NAME" → JSON of its numbers, the first of which is when its lease ends.
_DOORS = """
local others, names = {}, {ARGV[2]}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name = string.match(all[i], '^door:(.+)$')
  if name and name ~= ARGV[2] then
    local ok, record = pcall(cjson.decode, all[i + 1])
    if ok and type(record) == 'table' and type(record[1]) == 'number' and record[1] > now then
      others[name] = record
      names[#names + 1] = name
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
table.sort(names)
"""

# KEYS: a tenant's hash. ARGV: time in ms (""), door, lease in ms; rate, burst, taken, demand of rows; the same of bytes;
# limit of requests in flight, in flight, wanted, and how many a door may begin without a lease; for how long tokens are its in
# ms. A rate or limit of 0: there is none.
# Returns {tokens for this door, share (texts) of rows; of bytes; slots}.
#
# Buckets hold what all doors together may take. A door gets the part of its demand in all demand; one that asked for nothing
# counts as if it asked for a twentieth of the rate, so that it does not begin with nothing. What doors took beyond the tokens
# (as demand changes, the parts are not of the same moment) is a debt, so the rate holds. A full bucket goes on to fill for the
# tenth of a second in which doors may have taken what they have not told yet: a request that waits for a full bucket would
# lose that time, each time.
#
# Tokens are not given twice either: a door gets no more than the others do not hold. What a door got is its for GRANTED_MS, and
# until its next exchange it may still take what was left of the grant before. Then it has its local part, as without a lease.
#
# Slots are never given twice: a door gets no more than the others do not hold. If all want more than there is, each gets the
# part of what it wants; what is spare is divided likewise, but for an eighth of the limit, unless the door that asks had too few:
# a door that begins to get calls would else have nothing until the others ask again, which one without calls does not before its
# lease ends. A door that uses all its slots keeps up to an eighth of the limit beyond its part: if each change of the demand
# moved slots, some would always be on their way and serve nobody.
EXCHANGE = f"""{_NOW}{_DOORS}
local mine = redis.call('HGET', KEYS[1], 'door:' .. ARGV[2])
local ok, before = pcall(cjson.decode, mine or '')
if not ok or type(before) ~= 'table' or (tonumber(before[1]) or 0) <= now then before = {{}} end

local full_ms = 0
local mine_until = tonumber(before[6]) or 0
local function bucket(name, first, place)
  local rate, burst = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local taken, demand = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  if rate == 0 then return 0, 1, demand, 0, 0 end
  local tokens, at = string.match(redis.call('HGET', KEYS[1], name) or '', '^(%S+) (%S+)$')
  tokens, at = tonumber(tokens) or burst, tonumber(at) or now
  if now > at then tokens = tokens + (now - at) / 1000 * rate end
  tokens = math.min(tokens, burst + rate / 10) - taken
  redis.call('HSET', KEYS[1], name, string.format('%.17g %d', tokens, now))
  full_ms = math.max(full_ms, (burst - tokens) / rate * 1000)
  tokens = math.min(tokens, burst)
  local own = demand + rate / 20
  local sum = own
  local free = tokens
  for _, record in pairs(others) do
    sum = sum + (tonumber(record[place]) or 0) + rate / 20
    if (tonumber(record[6]) or 0) > now then free = free - (tonumber(record[2 * place + 4]) or 0) end
  end
  local share = own / sum
  local granted = math.min(tokens * share, math.max(free, 0))
  local left = 0
  if mine_until > now then left = (tonumber(before[2 * place + 3]) or 0) - taken end
  return granted, share, demand, math.max(granted, 0), math.max(granted, left, 0)
end
local row_tokens, row_share, row_demand, row_grant, row_held = bucket('rows', 4, 2)
local byte_tokens, byte_share, byte_demand, byte_grant, byte_held = bucket('bytes', 8, 3)

local limit, in_flight, wanted = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local slots = 0
if limit > 0 then
  local want, held = wanted, 0
  for _, record in pairs(others) do
    want = want + (tonumber(record[4]) or 0)
    held = held + (tonumber(record[5]) or 0)
  end
  local had = tonumber(before[5]) or 0
  local upto_all = limit
  if not before[1] or wanted <= had then upto_all = limit - math.floor(limit / 8) end
  local function part(w)
    if want > limit then return limit * w / want end
    return w + (math.max(upto_all, want) - want) * (w + 1) / (want + #names)
  end
  local fair, upto = 0, 0
  for _, name in ipairs(names) do
    local w = name == ARGV[2] and wanted or (tonumber(others[name][4]) or 0)
    local whole = math.floor(upto + 1e-6)
    upto = upto + part(w)
    if name == ARGV[2] then fair = math.floor(upto + 1e-6) - whole end
  end
  if wanted >= had and had > fair and had - fair <= limit / 8 then fair = had end
  slots = math.max(math.min(fair, limit - held), 0)
  -- Its first requests have begun without a lease, and more may before the others make room.
  if not before[1] then slots = math.max(slots, tonumber(ARGV[15])) end
end

local record = {{now + tonumber(ARGV[3]), row_demand, byte_demand, wanted, math.max(slots, in_flight),
  now + tonumber(ARGV[16]), row_grant, row_held, byte_grant, byte_held}}
redis.call('HSET', KEYS[1], 'door:' .. ARGV[2], cjson.encode(record))
-- A debt, and a bucket that is not full, must not be forgotten.
redis.call('PEXPIRE', KEYS[1], math.floor(math.min(math.max(full_ms, 10 * ARGV[3]) + 1000, 86400000)))
return {{string.format('%.17g', row_tokens), string.format('%.17g', row_share),
  string.format('%.17g', byte_tokens), string.format('%.17g', byte_share), slots}}
"""

# KEYS: doors of one table (hash), the rows (sorted set: hash of a row → when it came, as a number). ARGV: time in ms (""), door,
# lease in ms, rows of which this door asked, rows that it knows, how many to return at most, for how long all is kept in ms,
# budget, a random word, then hashes of rows that it let through.
# Returns {number of rows, new rows that this door may let through, epoch, hashes that the door does not know...}. The epoch is
# another one when Redis has lost its rows: then each door sends its own again.
#
# What is left is given once: a door gets its part of it by demand, and no more than the others have not got.
MERGE = f"""{_NOW}{_DOORS}
local count = redis.call('ZCARD', KEYS[2])
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if count == 0 or not epoch then
  epoch = ARGV[9]
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
for i = 10, #ARGV do
  if redis.call('ZADD', KEYS[2], 'NX', count + 1, ARGV[i]) == 1 then count = count + 1 end
end
local left = math.max(tonumber(ARGV[8]) - count, 0)
local sum, given = tonumber(ARGV[4]) + 1, 0
for _, record in pairs(others) do
  sum = sum + (tonumber(record[2]) or 0) + 1
  given = given + (tonumber(record[3]) or 0)
end
local grant = math.max(math.min(math.ceil(left * (tonumber(ARGV[4]) + 1) / sum), left - given), 0)
local record = {{now + tonumber(ARGV[3]), tonumber(ARGV[4]), grant}}
redis.call('HSET', KEYS[1], 'door:' .. ARGV[2], cjson.encode(record))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
local answer, known = {{count, grant, epoch}}, tonumber(ARGV[5])
if known < count then
  for _, row in ipairs(redis.call('ZRANGE', KEYS[2], known, known + tonumber(ARGV[6]) - 1)) do
    answer[#answer + 1] = row
  end
end
return answer
"""
