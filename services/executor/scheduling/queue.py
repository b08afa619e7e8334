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
class Piece(Generic[T]):
    """Rows (positions) of one call that share a fate. `arrived`: when the call came."""

    call: T
    rows: list[int]
    arrived: float


@dataclass(slots=True, eq=False)
class Lot(Generic[T]):
    """Rows of one call, priority and tenant, by deadline. Most calls are one lot: most work is per call."""

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


def _order(lot: Lot[T]) -> Order:
    return lot.order


class Waiting(Generic[T]):
    """Lots in order. `rows`: how many rows; `earliest`: no row's deadline is before it."""

    def __init__(self, lead: int) -> None:
        self._lots: list[Lot[T]] = []
        self._shares = Shares(lead)
        self.rows = 0
        self.earliest = math.inf

    def __iter__(self) -> Iterator[Lot[T]]:
        return iter(self._lots)

    def __bool__(self) -> bool:
        return bool(self._lots)

    @property
    def first(self) -> Lot[T]:
        """The lot that runs first."""
        return self._lots[0]

    def add(self, lot: Lot[T]) -> None:
        insort(self._lots, lot, key=_order)
        self.rows += len(lot.rows)
        self.earliest = min(self.earliest, lot.deadlines[0])

    def remove(self, call: T) -> None:
        """All rows of `call` go."""
        self._lots = [lot for lot in self._lots if lot.call != call]
        self._recount()

    def remove_until(self, limit: float) -> list[tuple[T, list[int]]]:
        """Takes out the rows whose deadline is at or before `limit`."""
        if limit < self.earliest:
            return []
        lots = self._lots
        late = [(lot.call, lot.cut(n)) for lot in lots if (n := bisect_right(lot.deadlines, limit))]
        if late:
            self._lots = sorted((lot for lot in self._lots if lot.rows), key=_order)
        self._recount()
        return late

    def shed(self, excess: int) -> list[tuple[T, list[int]]]:
        """Takes out `excess` rows: of the lowest priority those of whoever has most there, latest deadline first."""
        gone = []
        while excess > 0:
            lowest = self._lots[-1].priority
            level = [lot for lot in self._lots if lot.priority == lowest]
            sizes: dict[str, int] = {}
            for lot in level:
                sizes[lot.tenant] = sizes.get(lot.tenant, 0) + len(lot.rows)
            greediest = max(sizes, key=sizes.__getitem__)
            above = sizes[greediest] - max((n for t, n in sizes.items() if t != greediest), default=0)
            last = max((lot for lot in level if lot.tenant == greediest), key=lambda lot: lot.deadlines[-1])
            n = min(excess, max(above, 1), len(last.rows))
            gone.append((last.call, last.cut_end(n)))
            if not last.rows:
                self._lots.remove(last)
            excess -= n
            self.rows -= n
        if not self._lots:
            self.earliest = math.inf
        return gone

    def lane(self, priority: int) -> int:
        """Rows of that priority or a higher one."""
        return sum(len(lot.rows) for lot in takewhile(lambda lot: lot.priority >= priority, self._lots))

    def take(self, size: int, max_bytes: int) -> tuple[list[Piece[T]], int]:
        """The first rows in order, at most `size` and `max_bytes` but one at least, a piece per call; and how many.

        Where not all rows of a priority fit, no tenant gets further ahead of the others than `Shares` allows.
        """
        taking = _Taking[T](size, max_bytes)
        while self._lots and taking.open:
            level = self._foremost()
            if sum(len(lot.rows) for lot in level) <= taking.left:
                for lot in level:
                    taking.add(lot, len(lot.rows))
            else:
                self._take_fairly(level, taking)
            del self._lots[: len(level)]
            for lot in level:
                if lot.rows:
                    insort(self._lots, lot, key=_order)
        self.rows -= taking.taken
        if not self._lots:
            self.earliest = math.inf
            self._shares.forget()
        return list(taking.pieces.values()), taking.taken

    def _foremost(self) -> list[Lot[T]]:
        """The lots of the highest priority that waits."""
        priority = self._lots[0].priority
        return list(takewhile(lambda lot: lot.priority == priority, self._lots))

    def _take_fairly(self, level: list[Lot[T]], taking: _Taking[T]) -> None:
        shares = self._shares
        shares.waiting({lot.tenant for lot in level})
        held: list[Lot[T]] = []
        waiting = list(level)
        while waiting and taking.open:
            lot = waiting.pop(0)
            room = shares.room(lot.tenant)
            if room <= 0:
                held.append(lot)
                continue
            n = taking.add(lot, min(_before_next(lot, waiting), room))
            shares.took(lot.tenant, n)
            if lot.rows:
                insort(waiting, lot, key=_order)
        # Room that nobody else can use is not left empty.
        for lot in held:
            if taking.open:
                shares.took(lot.tenant, taking.add(lot, len(lot.rows)))

    def _recount(self) -> None:
        self.rows = sum(len(lot.rows) for lot in self._lots)
        self.earliest = min((lot.deadlines[0] for lot in self._lots), default=math.inf)


class _Taking(Generic[T]):
    """What a run takes, as it grows."""

    def __init__(self, rows: int, max_bytes: int) -> None:
        self.left = rows
        self.taken = 0
        self.pieces: dict[T, Piece[T]] = {}
        self._bytes = max_bytes

    @property
    def open(self) -> bool:
        return self.left > 0

    def add(self, lot: Lot[T], n: int) -> int:
        """Takes n rows of `lot`, or as many as fit; returns how many. The first row of a run always fits."""
        n = min(n, self.left)
        if lot.row_bytes and n * lot.row_bytes > self._bytes:
            n = max(self._bytes // lot.row_bytes, 0 if self.taken else 1)
            self.left = n
        if not n:
            return 0
        piece = self.pieces.get(lot.call)
        if piece is None:
            piece = self.pieces[lot.call] = Piece(lot.call, [], lot.arrived)
        piece.rows.extend(lot.cut(n))
        self.left -= n
        self.taken += n
        self._bytes -= n * lot.row_bytes
        return n


def _before_next(lot: Lot[T], others: list[Lot[T]]) -> int:
    """Rows of `lot` that come before the first row of the lots behind it; at least 1."""
    if not others:
        return len(lot.rows)
    return max(bisect_right(lot.deadlines, others[0].deadlines[0]), 1)


def grouped(
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


class Shares:
    """Rows that each waiting tenant has had while others waited, too.

    Deadlines decide who goes first as long as nobody is more than `lead` rows ahead of the tenant that has
    had least. So two tenants that always have rows waiting never drift apart by more than `lead` and one run.
    """

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._had: dict[str, int] = {}

    def waiting(self, tenants: Collection[str]) -> None:
        """These are all who wait. Whoever is new begins with the least that another has had: idling saves nothing."""
        had = self._had
        least = min((had[t] for t in tenants if t in had), default=0)
        self._had = {t: max(had.get(t, least) - least, 0) for t in tenants}

    def room(self, tenant: str) -> int:
        """Rows that the tenant may have before it must let others go first; 0 or less: none."""
        return self._lead + min(self._had.values()) - self._had[tenant]

    def took(self, tenant: str, rows: int) -> None:
        """The tenant gets that many rows run."""
        self._had[tenant] += rows

    def forget(self) -> None:
        """Nobody competes any more."""
        self._had.clear()
