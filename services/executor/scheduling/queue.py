"""The rows that wait for one model, in the order in which they run: by priority, then by deadline."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
Order = tuple[int, float, int]


# Not frozen: one is made per call, and a frozen dataclass takes three times as long to make.
@dataclass(slots=True, eq=False)
class RunPart(Generic[T]):
    """Rows (positions) of one call that share a fate. `arrived`: when the call came."""

    call: T
    rows: list[int]
    arrived: float


@dataclass(slots=True, eq=False)
class Segment(Generic[T]):
    """Rows of one call, priority and tenant, by deadline. Most calls are one segment: most work is per call."""

    call: T
    arrived: float
    priority: int
    tenant: str
    deadlines: list[float]
    rows: list[int]
    row_bytes: int
    serial: int

    @property
    def order(self) -> Order:
        return (-self.priority, self.deadlines[0], self.serial)

    def cut(self, n: int) -> list[int]:
        """Takes the first n rows off and returns their positions."""
        taken, self.rows, self.deadlines = self.rows[:n], self.rows[n:], self.deadlines[n:]
        return taken

    def cut_end(self, n: int) -> list[int]:
        """Takes the last n rows off and returns their positions."""
        taken = self.rows[-n:]
        del self.rows[-n:], self.deadlines[-n:]
        return taken


def _order(segment: Segment[T]) -> Order:
    return segment.order


class RowQueue(Generic[T]):
    """Lots in order. `rows`: how many rows; `earliest`: no row's deadline is before it."""

    def __init__(self, lead: int) -> None:
        self._segments: list[Segment[T]] = []
        self._shares = FairShares(lead)
        self.rows = 0
        self.earliest = math.inf

    def __iter__(self) -> Iterator[Segment[T]]:
        return iter(self._segments)

    def __bool__(self) -> bool:
        return bool(self._segments)

    @property
    def first(self) -> Segment[T]:
        """The segment that runs first."""
        return self._segments[0]

    def add(self, segment: Segment[T]) -> None:
        insort(self._segments, segment, key=_order)
        self.rows += len(segment.rows)
        self.earliest = min(self.earliest, segment.deadlines[0])

    def remove(self, call: T) -> None:
        """All rows of `call` go."""
        self._segments = [segment for segment in self._segments if segment.call != call]
        self._recount()

    def remove_until(self, limit: float) -> list[tuple[T, list[int]]]:
        """Takes out the rows whose deadline is at or before `limit`."""
        if limit < self.earliest:
            return []
        segments = self._segments
        late = [
            (segment.call, segment.cut(n))
            for segment in segments
            if (n := bisect_right(segment.deadlines, limit))
        ]
        if late:
            self._segments = sorted((segment for segment in self._segments if segment.rows), key=_order)
        self._recount()
        return late

    def shed(self, excess: int) -> list[tuple[T, list[int]]]:
        """Takes out `excess` rows: of the lowest priority those of whoever has most there, latest deadline first."""
        gone = []
        while excess > 0:
            lowest = self._segments[-1].priority
            level = [segment for segment in self._segments if segment.priority == lowest]
            sizes: dict[str, int] = {}
            for segment in level:
                sizes[segment.tenant] = sizes.get(segment.tenant, 0) + len(segment.rows)
            greediest = max(sizes, key=sizes.__getitem__)
            above = sizes[greediest] - max((n for t, n in sizes.items() if t != greediest), default=0)
            last = max(
                (segment for segment in level if segment.tenant == greediest),
                key=lambda segment: segment.deadlines[-1],
            )
            n = min(excess, max(above, 1), len(last.rows))
            gone.append((last.call, last.cut_end(n)))
            if not last.rows:
                self._segments.remove(last)
            excess -= n
            self.rows -= n
        if not self._segments:
            self.earliest = math.inf
        return gone

    def lane(self, priority: int) -> int:
        """Rows of that priority or a higher one."""
        return sum(
            len(segment.rows)
            for segment in takewhile(lambda segment: segment.priority >= priority, self._segments)
        )

    def take(self, size: int, max_bytes: int) -> tuple[list[RunPart[T]], int]:
        """The first rows in order, at most `size` and `max_bytes` but one at least, a part per call; and how many.

        Where not all rows of a priority fit, no tenant gets further ahead of the others than `FairShares` allows.
        """
        run = _RunBuilder[T](size, max_bytes)
        while self._segments and run.open:
            level = self._foremost()
            if sum(len(segment.rows) for segment in level) <= run.left:
                for segment in level:
                    run.add(segment, len(segment.rows))
            else:
                self._take_fairly(level, run)
            del self._segments[: len(level)]
            for segment in level:
                if segment.rows:
                    insort(self._segments, segment, key=_order)
        self.rows -= run.taken
        if not self._segments:
            self.earliest = math.inf
            self._shares.reset()
        return list(run.parts.values()), run.taken

    def _foremost(self) -> list[Segment[T]]:
        """The segments of the highest priority that waits."""
        priority = self._segments[0].priority
        return list(takewhile(lambda segment: segment.priority == priority, self._segments))

    def _take_fairly(self, level: list[Segment[T]], run: _RunBuilder[T]) -> None:
        shares = self._shares
        shares.update({segment.tenant for segment in level})
        held: list[Segment[T]] = []
        waiting = list(level)
        while waiting and run.open:
            segment = waiting.pop(0)
            room = shares.allowance(segment.tenant)
            if room <= 0:
                held.append(segment)
                continue
            n = run.add(segment, min(_before_next(segment, waiting), room))
            shares.charge(segment.tenant, n)
            if segment.rows:
                insort(waiting, segment, key=_order)
        # Room that nobody else can use is not left empty.
        for segment in held:
            if run.open:
                shares.charge(segment.tenant, run.add(segment, len(segment.rows)))

    def _recount(self) -> None:
        self.rows = sum(len(segment.rows) for segment in self._segments)
        self.earliest = min((segment.deadlines[0] for segment in self._segments), default=math.inf)


class _RunBuilder(Generic[T]):
    """What a run takes, as it grows."""

    def __init__(self, rows: int, max_bytes: int) -> None:
        self.left = rows
        self.taken = 0
        self.parts: dict[T, RunPart[T]] = {}
        self._bytes = max_bytes

    @property
    def open(self) -> bool:
        return self.left > 0

    def add(self, segment: Segment[T], n: int) -> int:
        """Takes n rows of `segment`, or as many as fit; returns how many. The first row of a run always fits."""
        n = min(n, self.left)
        if segment.row_bytes and n * segment.row_bytes > self._bytes:
            n = max(self._bytes // segment.row_bytes, 0 if self.taken else 1)
            self.left = n
        if not n:
            return 0
        part = self.parts.get(segment.call)
        if part is None:
            part = self.parts[segment.call] = RunPart(segment.call, [], segment.arrived)
        part.rows.extend(segment.cut(n))
        self.left -= n
        self.taken += n
        self._bytes -= n * segment.row_bytes
        return n


def _before_next(segment: Segment[T], others: list[Segment[T]]) -> int:
    """Rows of `segment` that come before the first row of the segments behind it; at least 1."""
    if not others:
        return len(segment.rows)
    return max(bisect_right(segment.deadlines, others[0].deadlines[0]), 1)


def group_rows(
    rows: Sequence[int], priorities: Sequence[int], tenants: Sequence[str], deadlines: Sequence[float]
) -> Iterator[tuple[tuple[int, str], tuple[list[float], list[int]]]]:
    """Deadlines and rows by priority and tenant, each by deadline."""
    count = len(rows)
    if count and priorities.count(priorities[0]) == count and tenants.count(tenants[0]) == count:
        # The usual call, in a tenth of the time.
        first = priorities[0], tenants[0]
        if deadlines.count(deadlines[0]) == count:
            yield first, (list(deadlines), sorted(rows))
        else:
            yield first, _by_deadline(zip(deadlines, rows, strict=True))
        return
    groups: dict[tuple[int, str], list[tuple[float, int]]] = {}
    for row, priority, tenant, deadline in zip(rows, priorities, tenants, deadlines, strict=True):
        groups.setdefault((priority, tenant), []).append((deadline, row))
    for key, pairs in groups.items():
        yield key, _by_deadline(pairs)


def _by_deadline(pairs: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    ordered = sorted(pairs)
    return [d for d, _ in ordered], [r for _, r in ordered]


class FairShares:
    """Rows that each waiting tenant has had while others waited, too.

    Deadlines decide who goes first as long as nobody is more than `lead` rows ahead of the tenant that has
    had least. So two tenants that always have rows waiting never drift apart by more than `lead` and one run.
    """

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._had: dict[str, int] = {}

    def update(self, tenants: Collection[str]) -> None:
        """These are all who wait. Whoever is new begins with the least that another has had: idling saves nothing."""
        had = self._had
        least = min((had[t] for t in tenants if t in had), default=0)
        self._had = {t: max(had.get(t, least) - least, 0) for t in tenants}

    def allowance(self, tenant: str) -> int:
        """Rows that the tenant may have before it must let others go first; 0 or less: none."""
        return self._lead + min(self._had.values()) - self._had[tenant]

    def charge(self, tenant: str, rows: int) -> None:
        """The tenant gets that many rows run."""
        self._had[tenant] += rows

    def reset(self) -> None:
        """Nobody competes any more."""
        self._had.clear()
