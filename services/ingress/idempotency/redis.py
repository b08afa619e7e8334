"""Keys in a Redis that the doors of several machines share. Each step is one script, which Redis runs as a whole.

Three entries of a tenant, all in one slot of a cluster: the record of a key (it goes by itself when its time is over), the times
at which records end (to count them), and the sizes of outcomes. Redis' own clock decides. What a Redis acknowledges and then
loses (no append-only file, a failover to a replica that lagged) is as if it had never been.
"""

from __future__ import annotations

import hashlib
from typing import Any

from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.idempotency.store import Claim, State, StoreRules, StoreUnreachableError

_NAME = "headrace:idempotency:"
_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
# KEYS: record, ends, sizes. The member of a key in `ends` and `sizes` is the name of its record; '#' is the sum of the sizes.
_PURGE = """
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 500)) do
  local size = redis.call('HGET', KEYS[3], gone)
  if size then
    redis.call('HINCRBY', KEYS[3], '#', -size)
    redis.call('HDEL', KEYS[3], gone)
  end
  redis.call('ZREM', KEYS[2], gone)
end
"""
# ARGV: fingerprint, token, lease in ms, most keys, most bytes.
_CLAIM = f"""{_NOW}
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'outcome')
if found[1] then
  if found[1] ~= ARGV[1] then return {{'other', ''}} end
  if found[2] then return {{'kept', found[2]}} end
  return {{'busy', ''}}
end
{_PURGE}
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return {{'full', ''}} end
if tonumber(redis.call('HGET', KEYS[3], '#') or '0') >= tonumber(ARGV[5]) then return {{'full', ''}} end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[3], KEYS[1])
return {{'claimed', ''}}
"""
# ARGV: token, then what each needs.
_OWNED = """
local mine = redis.call('HMGET', KEYS[1], 'token', 'outcome')
if mine[1] ~= ARGV[1] or mine[2] then return 0 end
"""
_RENEW = f"""{_OWNED}{_NOW}
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
return 1
"""
_COMMIT = f"""{_OWNED}{_NOW}
redis.call('HSET', KEYS[1], 'outcome', ARGV[3], 'note', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
local before = redis.call('HGET', KEYS[3], KEYS[1]) or 0
redis.call('HSET', KEYS[3], KEYS[1], #ARGV[3])
redis.call('HINCRBY', KEYS[3], '#', #ARGV[3] - before)
redis.call('PEXPIRE', KEYS[2], 2 * ARGV[2])
redis.call('PEXPIRE', KEYS[3], 2 * ARGV[2])
return 1
"""
_ABANDON = f"""{_OWNED}
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], KEYS[1])
return 1
"""


class RedisKeys:
    """A `KeyStore`."""

    def __init__(self, calls: RedisCalls, rules: StoreRules) -> None:
        self._calls = calls
        self._rules = rules

    async def claim(self, tenant: str, key: str, fingerprint: bytes, token: str) -> Claim:
        rules = self._rules
        limits = rules.max_keys, rules.max_bytes
        state, outcome = await self._run(_CLAIM, tenant, key, fingerprint, token, _ms(rules.lease_s), *limits)
        return Claim(State(state.decode()), outcome)

    async def renew(self, tenant: str, key: str, token: str) -> bool:
        return bool(await self._run(_RENEW, tenant, key, token, _ms(self._rules.lease_s)))

    async def commit(self, tenant: str, key: str, token: str, outcome: bytes, note: str) -> bool:
        return bool(await self._run(_COMMIT, tenant, key, token, _ms(self._rules.kept_s), outcome, note))

    async def abandon(self, tenant: str, key: str, token: str) -> None:
        await self._run(_ABANDON, tenant, key, token)

    async def purge(self) -> None:
        """Records go by themselves, and each claim cleans up behind its tenant."""

    async def close(self) -> None:
        await self._calls.close()

    async def _run(self, script: str, tenant: str, key: str, *values: Any) -> Any:
        try:
            command = ("EVAL", script, 3, *_names(tenant, key), *values)
            # Only a new call can be refused at once; what has run must not be lost for a failure a moment ago.
            (reply,) = await self._calls.ask([command], insist=script is not _CLAIM)
        except RedisDownError as error:
            raise StoreUnreachableError(str(error)) from error
        if isinstance(reply, Exception):
            raise StoreUnreachableError(f"Redis refuses: {reply}")
        return reply


def _names(tenant: str, key: str) -> tuple[str, str, str]:
    """Record, ends, sizes. What stands in braces decides the slot."""
    owner = "{" + hashlib.sha256(tenant.encode()).hexdigest()[:32] + "}:"
    record = hashlib.sha256(key.encode()).hexdigest()
    return f"{_NAME}{owner}key:{record}", f"{_NAME}{owner}ends", f"{_NAME}{owner}sizes"


def _ms(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
