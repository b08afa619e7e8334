"""What must happen in one step inside Redis: committing a release, keeping a document, counting a change.

All keys have the same hash tag, so that they lie on one node of a cluster.
"""

from __future__ import annotations

# KEYS: newest numbers, releases, tokens, revisions, documents, ages of documents (the last five of one pipeline), state, a lease.
# ARGV: pipeline, number, parent, content, token, kept, seconds that a document stays without a release, a random word,
#       the channel, the value that the lease must have ("": any), then the revisions that the release names.
# Returns {"ok"}, {"fenced"}, {"stale", newest} or {"absent", position of the revision, from 1}.
COMMIT = """
local number, parent = tonumber(ARGV[2]), tonumber(ARGV[3])
local newest = math.abs(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'))
if redis.call('HGET', KEYS[3], ARGV[2]) == ARGV[5] then return {'ok'} end
if ARGV[10] ~= '' and redis.call('GET', KEYS[8]) ~= ARGV[10] then return {'fenced'} end
if parent ~= newest or number ~= newest + 1 then return {'stale', newest} end
for i = 11, #ARGV do
  if redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then return {'absent', i - 10} end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[5])
redis.call('HSET', KEYS[4], ARGV[2], table.concat(ARGV, ',', 11))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local named = ''
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if tonumber(field) <= number - tonumber(ARGV[6]) then
    for key = 2, 4 do redis.call('HDEL', KEYS[key], field) end
  else
    named = named .. ',' .. (redis.call('HGET', KEYS[4], field) or '')
  end
end
local now = tonumber(redis.call('TIME')[1])
for _, revision in ipairs(redis.call('HKEYS', KEYS[5])) do
  local at = tonumber(redis.call('HGET', KEYS[6], revision) or '0')
  if now - at > tonumber(ARGV[7]) and not string.find(named, revision, 1, true) then
    redis.call('HDEL', KEYS[5], revision)
    redis.call('HDEL', KEYS[6], revision)
  end
end
redis.call('HSETNX', KEYS[7], 'epoch', ARGV[8])
redis.call('PUBLISH', ARGV[9], redis.call('HINCRBY', KEYS[7], 'count', 1))
return {'ok'}
"""

# KEYS: documents, ages of documents. ARGV: revision, text.
KEEP = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], redis.call('TIME')[1])
return 1
"""

# KEYS: the freeze, state. ARGV: the freeze ("": none), a random word, the channel.
FREEZE = """
if ARGV[1] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('HSETNX', KEYS[2], 'epoch', ARGV[2])
redis.call('PUBLISH', ARGV[3], redis.call('HINCRBY', KEYS[2], 'count', 1))
return 1
"""

# KEYS: newest numbers, then what is to be removed, then state. ARGV: pipeline, a random word, the channel.
REMOVE = """
local newest = math.abs(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'))
if newest > 0 then redis.call('HSET', KEYS[1], ARGV[1], -newest) end
for i = 2, #KEYS - 1 do redis.call('DEL', KEYS[i]) end
redis.call('HSETNX', KEYS[#KEYS], 'epoch', ARGV[2])
redis.call('PUBLISH', ARGV[3], redis.call('HINCRBY', KEYS[#KEYS], 'count', 1))
return 1
"""
