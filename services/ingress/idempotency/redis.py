"""Keys in a Redis that the doors of several machines share.

Each key is one value that goes by itself when its time is over: a line of JSON (fingerprint, token of the lease or note), then
the outcome. It is replaced only where it is what was expected, in one step. Beside it, for each tenant, are the times at which
its keys end, and the bytes of outcomes by the part of the day in which they end, to count them: nothing is subtracted, so
no door that is killed leaves a wrong sum. All of a tenant are in one slot of a cluster. What a Redis acknowledges and then
loses (no append-only file, a failover to a replica that lagged) is as if it had never been.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace.state.redis import Found, RedisCalls, RedisDownError, replace
from services.ingress.idempotency.store import Call, Claim, State, StoreUnreachableError, found

if TYPE_CHECKING:
    from services.ingress.idempotency.settings import Idempotency

_NAME = "headrace:idempotency:"
# Bytes are counted in so many parts of the time for which outcomes are kept; those that end in this part are counted no more.
_PARTS = 50


class RedisKeys:
    """A `KeyStore`. `wall`: seconds since the epoch, by which keys and bytes are counted; Redis' own clock ends them."""

    def __init__(self, calls: RedisCalls, rules: Idempotency, wall: Callable[[], float]) -> None:
        self._calls = calls
        self._rules = rules
        self._wall = wall

    async def claim(self, call: Call) -> Claim:
        rules, now = self._rules, self._wall()
        name, ends, sizes = _names(call)
        lease = replace(name, None, _leased(call), _ms(rules.lease_s))
        # Only a new call can be refused at once; what has run must not be lost for a failure a moment ago.
        reply, *counts = await self._ask(
            [
                lease,
                ("ZREMRANGEBYSCORE", ends, "-inf", now),
                ("ZADD", ends, "GT", now + rules.lease_s, name),
                ("ZCARD", ends),
                ("HGETALL", sizes),
            ],
            insist=False,
        )
        there = Found(*reply)
        if not there.replaced:
            return found(call, *_read(there.value))
        *_, keys, by_part = _checked(counts)
        part = self._part(now)
        over = [field for field in by_part if int(field) <= part]
        used = sum(int(size) for field, size in by_part.items() if int(field) > part)
        if over:
            await self._ask([("HDEL", sizes, *over)])
        if keys > rules.max_keys or used >= rules.max_bytes:
            await self.abandon(call)
            return Claim(State.FULL)
        return Claim(State.CLAIMED)

    async def renew(self, call: Call) -> bool:
        name, ends, _ = _names(call)
        lease, kept_s = _leased(call), self._rules.lease_s
        count = ("ZADD", ends, "XX", "GT", self._wall() + kept_s, name)
        return Found(*(await self._ask([replace(name, lease, lease, _ms(kept_s)), count]))[0]).replaced

    async def commit(self, call: Call, outcome: bytes, note: str) -> bool:
        kept_s = self._rules.kept_s
        name, ends, sizes = _names(call)
        value = _line(fingerprint=call.fingerprint.hex(), note=json.loads(note)) + outcome
        if not Found(*(await self._ask([replace(name, _leased(call), value, _ms(kept_s))]))[0]).replaced:
            return False
        end = self._wall() + kept_s
        count = [("ZADD", ends, "GT", end, name), ("HINCRBY", sizes, self._part(end), len(outcome))]
        await self._ask([*count, *(("PEXPIRE", key, 2 * _ms(kept_s)) for key in (ends, sizes))])
        return True

    async def abandon(self, call: Call) -> None:
        name, ends, _ = _names(call)
        if Found(*(await self._ask([replace(name, _leased(call), None, 1)]))[0]).replaced:
            await self._ask([("ZREM", ends, name)])

    async def purge(self) -> None:
        """Records go by themselves, and each claim cleans up behind its tenant."""

    async def close(self) -> None:
        await self._calls.close()

    def _part(self, time: float) -> int:
        return int(time * _PARTS / self._rules.kept_s)

    async def _ask(self, commands: Sequence[tuple[Any, ...]], *, insist: bool = True) -> Sequence[Any]:
        """The replies, of which the first is none that Redis refused."""
        try:
            replies = await self._calls.ask(commands, insist=insist)
        except RedisDownError as error:
            raise StoreUnreachableError(str(error)) from error
        _checked(replies[:1])
        return replies


def _checked(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise StoreUnreachableError(f"Redis refuses: {reply}")
    return replies


def _names(call: Call) -> tuple[str, str, str]:
    """Of the key, of the times at which the tenant's keys end, and of its bytes. What stands in braces decides the slot."""
    owner = f"{_NAME}{{{hashlib.sha256(call.tenant.encode()).hexdigest()[:32]}}}:"
    return f"{owner}key:{hashlib.sha256(call.key.encode()).hexdigest()}", f"{owner}ends", f"{owner}bytes"


def _leased(call: Call) -> bytes:
    return _line(fingerprint=call.fingerprint.hex(), token=call.token)


def _line(**values: object) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _read(value: bytes | None) -> tuple[bytes, bytes | None]:
    """The fingerprint of what is at a key, and its outcome, if it is kept."""
    head, line, outcome = (value or b"").partition(b"\n")
    try:
        read = json.loads(head)
        fingerprint = bytes.fromhex(read["fingerprint"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreUnreachableError("Redis holds something else at the key") from error
    return fingerprint, None if "token" in read or not line else outcome


def _ms(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
