"""The rows that wait for one model, ordered by priority, then by deadline; and how tenants share its runs."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
Order = tuple[int, float, int]


# Not frozen: one is made per call, and a frozen dataclass takes three times as long to make.
@dataclass(slots=True, eq=False)
class RunPart(Generic[T]):
    """The rows (positions) of one call that are in one run. `arrived`: when the call came (monotonic seconds)."""

    call: T
    rows: list[int]
    arrived: float


@dataclass(slots=True, eq=False)
class Segment(Generic[T]):
    """The waiting rows of one call that have the same priority and tenant, ordered by deadline.

    Most calls are one segment, so most of the queue's work is per call and not per row.
    """

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
        """Removes the first n rows and returns their positions."""
        taken, self.rows, self.deadlines = self.rows[:n], self.rows[n:], self.deadlines[n:]
        return taken

    def cut_end(self, n: int) -> list[int]:
        """Removes the last n rows and returns their positions."""
        taken = self.rows[-n:]
        del self.rows[-n:], self.deadlines[-n:]
        return taken


def _order(segment: Segment[T]) -> Order:
    return segment.order


class RowQueue(Generic[T]):
    """Segments in order. `rows`: number of rows; `earliest`: no row's deadline is before it."""

    def __init__(self, lead: int) -> None:
        self._segments: list[Segment[T]] = []
        self._shares = FairShares(lead)
        self.rows = 0
        self.earliest = math.inf

    def __iter__(self) -> Iterator[Segment[T]]:
        return iter(self._segments)

    @property
    def first(self) -> Segment[T]:
        return self._segments[0]

    def add(self, segment: Segment[T]) -> None:
        insort(self._segments, segment, key=_order)
        self.rows += len(segment.rows)
        self.earliest = min(self.earliest, segment.deadlines[0])

    def remove(self, call: T) -> None:
        """Removes all rows of `call`."""
        self._segments = [s for s in self._segments if s.call != call]
        self._recount()

    def remove_until(self, limit: float) -> list[tuple[T, list[int]]]:
        """Removes the rows whose deadline is at or before `limit`; returns them by call."""
        if limit < self.earliest:
            return []
        late = [(s.call, s.cut(n)) for s in self._segments if (n := bisect_right(s.deadlines, limit))]
        if late:
            self._segments = sorted((s for s in self._segments if s.rows), key=_order)
        self._recount()
        return late

    def shed(self, excess: int) -> list[tuple[T, list[int]]]:
        """Removes `excess` rows and returns them by call.

        Takes them from the lowest priority; there from the tenant with the most rows, latest deadline first.
        """
        removed = []
        while excess > 0:
            lowest = self._segments[-1].priority
            level = [s for s in self._segments if s.priority == lowest]
            sizes: dict[str, int] = {}
            for segment in level:
                sizes[segment.tenant] = sizes.get(segment.tenant, 0) + len(segment.rows)
            greediest = max(sizes, key=sizes.__getitem__)
            above = sizes[greediest] - max((n for t, n in sizes.items() if t != greediest), default=0)
            last = max((s for s in level if s.tenant == greediest), key=lambda s: s.deadlines[-1])
            n = min(excess, max(above, 1), len(last.rows))
            removed.append((last.call, last.cut_end(n)))
            if not last.rows:
                self._segments.remove(last)
            excess -= n
            self.rows -= n
        if not self._segments:
            self.earliest = math.inf
        return removed

    def rows_from(self, priority: int) -> int:
        """Number of rows with that priority or a higher one."""
        return sum(len(s.rows) for s in takewhile(lambda s: s.priority >= priority, self._segments))

    def take(self, size: int, max_bytes: int) -> tuple[list[RunPart[T]], int]:
        """Removes the rows of the next run; returns one part per call, and the number of rows.

        They are the first in order, at most `size` rows and `max_bytes` bytes, but at least one row. Where not all rows
        of a priority fit, no tenant gets further ahead of the others than `FairShares` allows.
        """
        run = _RunBuilder[T](size, max_bytes)
        while self._segments and run.left:
            level = self._highest_priority()
            if run.fits(level):
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

    def _highest_priority(self) -> list[Segment[T]]:
        priority = self._segments[0].priority
        return list(takewhile(lambda s: s.priority == priority, self._segments))

    def _take_fairly(self, level: list[Segment[T]], run: _RunBuilder[T]) -> None:
        shares = self._shares
        shares.update({s.tenant for s in level})
        passed_over: list[Segment[T]] = []
        waiting = list(level)
        while waiting and run.left:
            segment = waiting.pop(0)
            allowed = shares.allowance(segment.tenant)
            if allowed <= 0:
                passed_over.append(segment)
                continue
            n = run.add(segment, min(_before_next(segment, waiting), allowed))
            shares.charge(segment.tenant, n)
            if segment.rows:
                insort(waiting, segment, key=_order)
        # If the others leave space in the run, tenants that are ahead use it.
        while passed_over and run.left:
            segment = passed_over.pop(0)
            shares.charge(segment.tenant, run.add(segment, _before_next(segment, passed_over)))
            if segment.rows:
                insort(passed_over, segment, key=_order)

    def _recount(self) -> None:
        self.rows = sum(len(s.rows) for s in self._segments)
        self.earliest = min((s.deadlines[0] for s in self._segments), default=math.inf)


class _RunBuilder(Generic[T]):
    """The parts of the next run while it is filled. `left`: rows that still fit; `taken`: rows in it."""

    def __init__(self, rows: int, max_bytes: int) -> None:
        self.left = rows
        self.taken = 0
        self.parts: dict[T, RunPart[T]] = {}
        self._bytes = max_bytes

    def fits(self, segments: list[Segment[T]]) -> bool:
        rows = sum([len(s.rows) for s in segments])
        return rows <= self.left and sum([len(s.rows) * s.row_bytes for s in segments]) <= self._bytes

    def add(self, segment: Segment[T], n: int) -> int:
        """Moves n rows of `segment` into the run, or as many as fit; returns how many. The first row always fits."""
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
) -> list[tuple[int, str, list[float], list[int]]]:
    """Groups rows by priority and tenant; gives these, and each group's deadlines and rows, ordered by deadline."""
    count = len(rows)
    if count and priorities.count(priorities[0]) == count and tenants.count(tenants[0]) == count:
        # The usual call has one group: this takes a tenth of the time.
        return [(priorities[0], tenants[0], *_by_deadline(deadlines, rows))]
    groups: dict[tuple[int, str], tuple[list[float], list[int]]] = {}
    for row, priority, tenant, deadline in zip(rows, priorities, tenants, deadlines, strict=True):
        group = groups.setdefault((priority, tenant), ([], []))
        group[0].append(deadline)
        group[1].append(row)
    return [(*key, *_by_deadline(*group)) for key, group in groups.items()]


def _by_deadline(deadlines: Sequence[float], rows: Sequence[int]) -> tuple[list[float], list[int]]:
    if deadlines.count(deadlines[0]) == len(deadlines):
        return list(deadlines), sorted(rows)
    ordered, positions = zip(*sorted(zip(deadlines, rows, strict=True)), strict=True)
    return list(ordered), list(positions)


class FairShares:
    """Counts the rows that each waiting tenant got while other tenants waited.

    Deadlines decide the order as long as no tenant is more than `lead` rows ahead of the tenant with the lowest count.
    So the counts of two tenants that always have rows waiting differ by `lead` and one run at most.
    """

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._had: dict[str, int] = {}

    def update(self, tenants: Collection[str]) -> None:
        """Sets the tenants that wait now. A new one starts at the lowest count: a tenant gains nothing by being idle."""
        had = self._had
        least = min((had[t] for t in tenants if t in had), default=0)
        self._had = {t: max(had.get(t, least) - least, 0) for t in tenants}

    def allowance(self, tenant: str) -> int:
        """Rows that the tenant may get before others come first; 0 or less: none."""
        return self._lead + min(self._had.values()) - self._had[tenant]

    def charge(self, tenant: str, rows: int) -> None:
        """Counts rows that go into a run for the tenant."""
        self._had[tenant] += rows

    def reset(self) -> None:
        """Sets all counts back: nobody waits any more."""
        self._had.clear()
