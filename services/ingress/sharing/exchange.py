"""Asks Redis for parts of tenants' limits. Knows the format of what is there, and refuses another one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.access.specs import QuotaSpec
from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.admission.row_key import RowKey
from services.ingress.sharing.lease import Grant, Use, unleased_slots
from services.ingress.sharing.scripts import EXCHANGE, HELLO, MERGE

# What this version writes. Doors of another format can't share limits with it.
FORMAT = "headrace quotas 1"
_NAME = "headrace:quotas:"
_DOORS = f"{_NAME}{{doors}}:known", f"{_NAME}{{doors}}:format", f"{_NAME}{{doors}}:row_key"
# For how long a door is known that does not say that it is there; for how long its part of a limit is kept for it.
KNOWN_MS = 3000
LEASE_MS = 1500
# For how long the tokens of a grant are kept for a door. Longer than it may use them (GRANTED_S), so that none is used twice.
_GRANTED_MS = 400
# A day and some, as clocks differ.
_ROWS_KEPT_MS = 26 * 3600 * 1000


class FormatError(Exception):
    """Redis holds something else, or what another version writes. The text names no address."""


@dataclass(frozen=True, slots=True)
class Merged:
    """`count`: different rows of all doors; `grant`: new rows that this door may let through; `epoch`: changes when Redis has
    lost rows; `unknown`: rows of others."""

    count: int
    grant: int
    epoch: bytes
    unknown: Sequence[int]


class Exchange:
    """This door's. `row_key`: what rows are hashed with; `now_ms`: "" for Redis' own clock."""

    def __init__(self, calls: RedisCalls, door: str, row_key: RowKey, now_ms: str | int = "") -> None:
        self._calls = calls
        self._door = door
        self._row_key = row_key
        self.now_ms = now_ms

    async def hello(self) -> int:
        """Says that this door is there, and agrees on the key of rows. Returns how many doors there are.

        Raises RedisDownError, FormatError.
        """
        own = self._row_key.value
        command = ("EVAL", HELLO, len(_DOORS), *_DOORS, self.now_ms, self._door, KNOWN_MS, FORMAT, own)
        (reply,) = await self._calls.ask([command])
        if isinstance(reply, Exception):
            raise FormatError(
                f"what is at {_NAME}{{doors}} can't be used ({_said(reply)}): another program uses this Redis, or it is no "
                "Redis that runs scripts; name another database"
            )
        state, found, *row_key = reply
        if _text(state) != "ok":
            raise FormatError(
                f"{_DOORS[1]} says {_text(found)!r} where this version writes {FORMAT!r}: another version of headrace or another "
                "program, uses this database; name another one, or stop the other doors and delete the key"
            )
        self._row_key.agree(*row_key)
        return int(found)

    async def exchange(self, told: Mapping[str, tuple[QuotaSpec, Use]], doors: int) -> dict[str, Grant | str]:
        """Tells what tenants used, and gets what they may use next; a text says why a tenant gets nothing.

        Raises RedisDownError.
        """
        commands = [self._command(tenant, limits, use, doors) for tenant, (limits, use) in told.items()]
        replies = await self._calls.ask(commands)
        return {tenant: _grant(reply) for tenant, reply in zip(told, replies, strict=True)}

    async def merge(
        self, table: tuple[str, str, int], budget: int, asked: int, known: int, most: int, rows: Sequence[int]
    ) -> Merged | str:
        """Adds `rows` to those of a table (tenant, pipeline, day); a text says why not. `known`: how many of its rows this door
        has; `most`: of the others it gets so many at once. Raises RedisDownError."""
        tag = _tag("\0".join(map(str, table)))
        keys = f"{_NAME}{tag}asking", f"{_NAME}{tag}rows"
        packed = [row.to_bytes(8, "little") for row in rows]
        numbers = (self.now_ms, self._door, LEASE_MS, asked, known, most, _ROWS_KEPT_MS, budget)
        command = ("EVAL", MERGE, 2, *keys, *numbers, secrets.token_hex(8), *packed)
        (reply,) = await self._calls.ask([command])
        if isinstance(reply, Exception):
            return _said(reply)
        count, grant, epoch, *unknown = reply
        return Merged(int(count), int(grant), epoch, [int.from_bytes(row, "little") for row in unknown])

    async def close(self) -> None:
        """The other doors need not wait until this one is forgotten."""
        try:
            await self._calls.ask([("ZREM", _DOORS[0], self._door)])
        except RedisDownError:
            return
        finally:
            await self._calls.close()

    def _command(self, tenant: str, limits: QuotaSpec, use: Use, doors: int) -> tuple[Any, ...]:
        rows, row_burst = limits.rows_per_s or 0, limits.rows_burst or limits.rows_per_s or 0
        size, size_burst = limits.bytes_per_s or 0, limits.bytes_burst or limits.bytes_per_s or 0
        # One that has heard of no other door may be the first that greets a Redis that lost its data. Alone it gets its slots by
        # what it wants; all of them would leave the next door without any until this one asks again.
        unleased = unleased_slots(limits.concurrency or 0, max(doors, 2))
        return (
            *("EVAL", EXCHANGE, 1, f"{_NAME}{_tag(tenant)}limits", self.now_ms, self._door, LEASE_MS),
            *(rows, max(row_burst, 1.0), use.rows, use.rows_demand),
            *(size, max(size_burst, 1.0), use.bytes, use.bytes_demand),
            *(limits.concurrency or 0, use.in_flight, use.wanted, unleased),
            _GRANTED_MS,
        )


def _tag(name: str) -> str:
    """What stands in braces decides the slot of a cluster."""
    return "{" + hashlib.sha256(name.encode()).hexdigest()[:32] + "}:"


def _grant(reply: Any) -> Grant | str:
    if isinstance(reply, Exception):
        return _said(reply)
    rows, rows_share, size, size_share, slots = reply
    return Grant(float(rows), float(rows_share), float(size), float(size_share), int(slots))


def _said(reply: Exception) -> str:
    return str(reply).partition("\n")[0][:120]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
