"""How doors divide the limits of one tenant: each tells what it used and gets its next part. Pure; there is one clock for all.

The book of a tenant holds what all doors together may take, and what each of them has. Nothing is given twice: a door gets no
more than the others do not hold. Who reads and writes the book in one step is for the caller to see to.
"""

from __future__ import annotations

import json
import math
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
# One part in so many of the slots stays where it is: if each change of the demand moved slots, some would always be on their way
# and serve nobody; and a door to which calls move finds some that nobody holds.
_RESERVE = 8
_DAY_MS = 86_400_000
# Rounding must not lose a slot.
_EPSILON = 1e-6

Pair = tuple[float, float]
"""Of rows, and of bytes."""


class Limits(NamedTuple):
    """Of a tenant, at all doors together. `rates`: per second (0: no limit), `bursts`; `slots`: requests in flight (0: no limit);
    `unleased`: how many of them a door may begin without a lease."""

    rates: Pair
    bursts: Pair
    slots: int
    unleased: int


class Use(NamedTuple):
    """What a door tells. `taken`: since the last exchange; `demand`: asked for per second, whether it was given or not;
    `in_flight`: requests now; `wanted`: the most that would have been in flight at once."""

    taken: Pair
    demand: Pair
    in_flight: int
    wanted: int


class Grant(NamedTuple):
    """What a door gets. `tokens`: what it may take at once (negative: its part of the debt of all); `shares`: its part (0 to 1)
    of the rate and of the burst; `slots`: requests that it may have in flight."""

    tokens: Pair
    shares: Pair
    slots: int


class Record(NamedTuple):
    """What one door has. `until`: its lease ends (ms); `tokens_until`: its tokens are its own; `granted`: what its last grant
    gave; `held`: the most that it may still take of all its grants."""

    until: float
    wanted: int
    slots: int
    tokens_until: float
    demand: Pair
    granted: Pair
    held: Pair


class Book:
    """`doors`: leases by the name of the door; `levels`: tokens in the buckets, and when that was (ms)."""

    def __init__(self) -> None:
        self.doors: dict[str, Record] = {}
        self.levels: list[Pair | None] = [None, None]

    def to_bytes(self) -> bytes:
        return json.dumps({"doors": self.doors, "levels": self.levels}, separators=(",", ":")).encode()

    @classmethod
    def of_bytes(cls, data: bytes | None) -> Book:
        """The inverse; None: an empty book. Raises ValueError for anything else."""
        book = cls()
        if data is None:
            return book
        try:
            read = json.loads(data)
            for name, (until, wanted, slots, tokens_until, *pairs) in read["doors"].items():
                lease = float(until), int(wanted), int(slots), float(tokens_until)
                book.doors[name] = Record(*lease, *map(_pair, pairs))
            rows, size = read["levels"]
            book.levels = [level and _pair(level) for level in (rows, size)]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("not a book of limits") from error
        return book

    def exchange(self, door: str, now: float, limits: Limits, use: Use) -> tuple[Grant, int]:
        """A door tells what it used and gets its next part; and for how many ms the book must not be forgotten."""
        self.doors = {name: record for name, record in self.doors.items() if record.until > now}
        before = self.doors.pop(door, None)
        (rows, row_share, rows_held), (size, size_share, size_held) = (
            self._tokens(i, now, limits, use, before) for i in (0, 1)
        )
        slots = self._slots(door, limits, use, before) if limits.slots else 0
        self.doors[door] = Record(
            now + LEASE_MS,
            use.wanted,
            max(slots, use.in_flight),
            now + _TOKENS_MS,
            use.demand,
            (max(rows, 0.0), max(size, 0.0)),
            (rows_held, size_held),
        )
        # A debt, and a bucket that is not full, must not be forgotten.
        missing = zip(limits.bursts, limits.rates, self.levels, strict=True)
        full_s = max([(burst - level[0]) / rate for burst, rate, level in missing if level and rate] or [0.0])
        kept_ms = min(max(full_s * 1000, 10 * LEASE_MS) + 1000, _DAY_MS)
        return Grant((rows, size), (row_share, size_share), slots), int(kept_ms)

    def _tokens(
        self, i: int, now: float, limits: Limits, use: Use, before: Record | None
    ) -> tuple[float, float, float]:
        """Of rows (0) or bytes (1): tokens, share, and how many tokens the door holds then."""
        rate, burst = limits.rates[i], limits.bursts[i]
        if not rate:
            return 0.0, 1.0, 0.0
        tokens, at = self.levels[i] or (burst, now)
        level = min(tokens + max(now - at, 0.0) / 1000 * rate, burst + rate * _UNTOLD_S) - use.taken[i]
        self.levels[i] = level, now
        others = self.doors.values()
        own = use.demand[i] + rate * _QUIET
        share = own / (own + sum(r.demand[i] + rate * _QUIET for r in others))
        level = min(level, burst)
        free = level - sum(r.held[i] for r in others if r.tokens_until > now)
        granted = min(level * share, max(free, 0.0))
        # Until it hears of this grant, it may still take what was left of the one before.
        left = before.granted[i] - use.taken[i] if before is not None and before.tokens_until > now else 0.0
        return granted, share, max(granted, left, 0.0)

    def _slots(self, door: str, limits: Limits, use: Use, before: Record | None) -> int:
        """If all want more than there is, each door gets the part of what it wants; what is spare is divided likewise, but for
        the reserve, unless the door that asks had too few. A door that uses all its slots keeps up to the reserve beyond its
        part."""
        limit, had = limits.slots, before.slots if before is not None else 0
        wants = {name: record.wanted for name, record in self.doors.items()} | {door: use.wanted}
        total = sum(wants.values())
        enough = before is None or use.wanted <= had
        spare = max(limit - limit // _RESERVE if enough else limit, total) - total
        fair, upto = 0, 0.0
        for name in sorted(wants):
            want, whole = wants[name], math.floor(upto + _EPSILON)
            upto += (
                limit * want / total if total > limit else want + spare * (want + 1) / (total + len(wants))
            )
            if name == door:
                fair = math.floor(upto + _EPSILON) - whole
        if use.wanted >= had and 0 < had - fair <= limit / _RESERVE:
            fair = had
        slots = max(min(fair, limit - sum(record.slots for record in self.doors.values())), 0)
        # Its first requests have begun without a lease, and more may before the others make room.
        return slots if before is not None else max(slots, limits.unleased)


def _pair(values: list[float]) -> Pair:
    one, other = values
    return float(one), float(other)
