"""How doors divide the limits of one tenant: each tells what it used and gets its next part. Pure; there is one clock for all.

The book of a tenant holds what all doors together may take, and what each of them has. Nothing is given twice: a door gets no
more than the others do not hold. Who reads and writes the book in one step is for the caller to see to.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import NamedTuple

# A door that does not ask again keeps its part for so long (ms of the book's clock).
LEASE_MS = 1500
# For how long the tokens of a grant are kept for a door. Longer than it may use them (GRANTED_S), so that none is used twice.
_TOKENS_MS = 400
# A door that asked for nothing counts as if it asked for this part of the rate, so that it does not begin with nothing.
_QUIET = 1 / 20
# A full bucket goes on to fill for so long (seconds), as doors may have taken what they have not told yet: a request that waits
# for a full bucket would lose that time, each time.
_UNTOLD_S = 0.1
# This part of the slots stays where it is: if each change of the demand moved slots, some would always be on their way and serve
# nobody; and a door to which calls move finds some that nobody holds.
_RESERVE = 8
_DAY_MS = 86_400_000
# Rounding must not lose a slot.
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit of an amount per second; 0: there is none."""

    per_s: float
    burst: float


@dataclass(frozen=True, slots=True)
class Amount:
    """Rows, or bytes: `taken` since the last exchange; `demand`: asked for per second, whether they were given or not."""

    taken: float
    demand: float


@dataclass(frozen=True, slots=True)
class Use:
    """What a door tells. `amounts`: of rows and of bytes; `in_flight`: requests now; `wanted`: the most that would have been in
    flight at once."""

    amounts: tuple[Amount, Amount]
    in_flight: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Part:
    """`tokens`: what a door may take at once (negative: its part of the debt of all); `share`: its part (0 to 1) of the rate and
    of the burst."""

    tokens: float
    share: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What a door gets. `parts`: of rows and of bytes; `slots`: requests that it may have in flight."""

    parts: tuple[Part, Part]
    slots: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a tenant, at all doors together. `rates`: of rows and of bytes; `slots`: requests in flight (0: no limit); `unleased`:
    how many of them a door may begin without a lease."""

    rates: tuple[Rate, Rate]
    slots: int
    unleased: int


class Tokens(NamedTuple):
    """Rows or bytes of one door: its demand, what its last grant gave, and the most that it may still take of all its grants."""

    demand: float = 0.0
    granted: float = 0.0
    held: float = 0.0


class Record(NamedTuple):
    """What one door has. `until`: its lease ends (ms); `tokens_until`: its tokens are its own."""

    until: float
    wanted: int
    slots: int
    tokens_until: float
    rows: Tokens
    bytes: Tokens


@dataclass(slots=True)
class Book:
    """`doors`: leases by the name of the door; `levels`: tokens in the buckets of rows and of bytes, and when that was (ms)."""

    doors: dict[str, Record] = field(default_factory=dict)
    levels: list[tuple[float, float] | None] = field(default_factory=lambda: [None, None])

    def to_bytes(self) -> bytes:
        return json.dumps({"doors": self.doors, "levels": self.levels}, separators=(",", ":")).encode()

    @classmethod
    def of_bytes(cls, data: bytes | None) -> Book:
        """The inverse; None: an empty book. Raises ValueError for anything else."""
        if data is None:
            return cls()
        try:
            read = json.loads(data)
            doors = {name: _record(*values) for name, values in read["doors"].items()}
            rows, size = (
                None if level is None else (float(level[0]), float(level[1])) for level in read["levels"]
            )
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError("not a book of limits") from error
        return cls(doors, [rows, size])

    def exchange(self, door: str, now: float, limits: Limits, use: Use) -> tuple[Grant, int]:
        """A door tells what it used and gets its next part; and for how many ms the book must not be forgotten."""
        others = [r for name, r in self.doors.items() if name != door and r.until > now]
        before = self.doors.get(door)
        if before is not None and before.until <= now:
            before = None
        self.doors = {name: r for name, r in self.doors.items() if name == door or r.until > now}
        parts, tokens, full_s = [], [], 0.0
        for i, (rate, amount) in enumerate(zip(limits.rates, use.amounts, strict=True)):
            if not rate.per_s:
                parts.append(Part(0.0, 1.0))
                tokens.append(Tokens(amount.demand))
                continue
            level = _level(self.levels[i], rate, now) - amount.taken
            self.levels[i] = level, now
            full_s = max(full_s, (rate.burst - level) / rate.per_s)
            held_elsewhere = sum(_tokens(r, i).held for r in others if r.tokens_until > now)
            demands = sum(_tokens(r, i).demand + rate.per_s * _QUIET for r in others)
            own = amount.demand + rate.per_s * _QUIET
            level, share = min(level, rate.burst), own / (own + demands)
            granted = min(level * share, max(level - held_elsewhere, 0.0))
            # Until it hears of this grant, it may still take what was left of the one before.
            left = 0.0
            if before is not None and before.tokens_until > now:
                left = _tokens(before, i).granted - amount.taken
            parts.append(Part(granted, share))
            tokens.append(Tokens(amount.demand, max(granted, 0.0), max(granted, left, 0.0)))
        slots = self._slots(door, limits, use, before, others) if limits.slots else 0
        self.doors[door] = Record(
            now + LEASE_MS, use.wanted, max(slots, use.in_flight), now + _TOKENS_MS, tokens[0], tokens[1]
        )
        # A debt, and a bucket that is not full, must not be forgotten.
        kept_ms = min(max(full_s * 1000, 10 * LEASE_MS) + 1000, _DAY_MS)
        return Grant((parts[0], parts[1]), slots), int(kept_ms)

    def _slots(self, door: str, limits: Limits, use: Use, before: Record | None, others: list[Record]) -> int:
        """If all want more than there is, each door gets the part of what it wants; what is spare is divided likewise, but for
        the reserve, unless the door that asks had too few. A door that uses all its slots keeps up to the reserve beyond its
        part."""
        limit, had = limits.slots, before.slots if before is not None else 0
        wants = {name: r.wanted for name, r in self.doors.items()} | {door: use.wanted}
        total = sum(wants.values())
        enough = before is None or use.wanted <= had
        divided = max(limit - limit // _RESERVE if enough else limit, total)
        fair, upto = 0, 0.0
        for name in sorted(wants):
            want, whole = wants[name], math.floor(upto + _EPSILON)
            if total > limit:
                upto += limit * want / total
            else:
                upto += want + (divided - total) * (want + 1) / (total + len(wants))
            if name == door:
                fair = math.floor(upto + _EPSILON) - whole
        if use.wanted >= had and 0 < had - fair <= limit / _RESERVE:
            fair = had
        slots = max(min(fair, limit - sum(r.slots for r in others)), 0)
        # Its first requests have begun without a lease, and more may before the others make room.
        return slots if before is not None else max(slots, limits.unleased)


def _level(level: tuple[float, float] | None, rate: Rate, now: float) -> float:
    tokens, at = level or (rate.burst, now)
    return min(tokens + max(now - at, 0.0) / 1000 * rate.per_s, rate.burst + rate.per_s * _UNTOLD_S)


def _tokens(record: Record, i: int) -> Tokens:
    return record.bytes if i else record.rows


def _record(until: float, wanted: int, slots: int, tokens_until: float, *amounts: list[float]) -> Record:
    rows, size = (Tokens(*map(float, amount)) for amount in amounts)
    return Record(float(until), int(wanted), int(slots), float(tokens_until), rows, size)
