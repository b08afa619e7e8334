"""When rows run, together with which others, and which never do: a state machine, the clock passed in.

Natural batching: an idle instance takes what is there at once; while all are busy, rows gather. Rows
leave in order of priority (high first), then deadline (early first). A row that can't make its deadline
is dropped before it runs, so that an overloaded executor works for rows that someone still waits for.
"""

from __future__ import annotations

import enum
from bisect import bisect_right, insort
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic, TypeVar

from services.executor.run_times import RunTimes

T = TypeVar("T", bound=Hashable)
Order = tuple[int, float, int]


class Why(enum.Enum):
    """Why rows are dropped."""

    EXPIRED = "expired"
    # The estimate says that the run would end after the deadline.
    TOO_LATE = "too late"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one model. `max_delay`: seconds a row may wait for company though an instance is idle."""

    max_rows: int
    max_queue_rows: int
    instances: int = 1
    max_delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece(Generic[T]):
    """Rows (positions) of one call that share a fate. `arrived`: when the call came."""

    call: T
    rows: list[int]
    arrived: float


@dataclass(frozen=True, slots=True, eq=False)
class Run(Generic[T]):
    """One run of the model over the rows of its pieces."""

    pieces: list[Piece[T]]
    row_count: int
    started: float
    # Seconds that it will take; 0 if nothing is known.
    expected: float


@dataclass(frozen=True, slots=True)
class Drop(Generic[T]):
    """Rows that will not run."""

    call: T
    rows: list[int]
    why: Why
    # For OVERLOADED: seconds after which trying again makes sense.
    retry_after: float = 0.0


@dataclass(slots=True, eq=False)
class _Lot(Generic[T]):
    """Rows of one call and one priority, by deadline. Most calls are one lot: most work is per call."""

    call: T
    arrived: float
    priority: int
    deadlines: list[float]
    rows: list[int]
    serial: int

    @property
    def order(self) -> Order:
        return (-self.priority, self.deadlines[0], self.serial)

    def cut(self, n: int) -> list[int]:
        """Takes the first n rows off and returns their positions."""
        taken, self.rows, self.deadlines = self.rows[:n], self.rows[n:], self.deadlines[n:]
        return taken


def _order(lot: _Lot[T]) -> Order:
    return lot.order


class Scheduler(Generic[T]):
    """Queue and batching of one model.

    Each row offered comes out exactly once: in a Run, in a Drop, or by `withdraw`.
    """

    def __init__(self, limits: Limits, times: RunTimes | None = None) -> None:
        self.limits = limits
        self.times = times or RunTimes()
        self._lots: list[_Lot[T]] = []
        self._drops: list[Drop[T]] = []
        self._serial = count()
        self._running = 0
        self.queued = 0
        """Rows that wait."""

    def offer(
        self, call: T, rows: Sequence[int], priorities: Sequence[int], deadlines: Sequence[float], now: float
    ) -> None:
        """`rows` (positions) of `call` ask to run, with their priorities and deadlines (on `now`'s clock)."""
        if not rows:
            return
        for lot in self._lots_of(call, rows, priorities, deadlines, now):
            insort(self._lots, lot, key=_order)
        self.queued += len(rows)
        if self.queued > self.limits.max_queue_rows:
            self._drop_until(now, Why.EXPIRED)
            self._shed()

    def withdraw(self, call: T) -> None:
        """Nobody waits for `call` any more: its queued rows go, without a Drop."""
        self._lots = [lot for lot in self._lots if lot.call != call]
        self.queued = sum(len(lot.rows) for lot in self._lots)

    def start(self, now: float) -> Run[T] | None:
        """The run to begin now. None: nothing waits, no instance is free, or company is waited for."""
        self._drop_until(now, Why.EXPIRED)
        if not self._lots or self._running >= self.limits.instances or self._due() > now:
            return None
        size = self._fit(now)
        if not size:
            # All were dropped on the word of the estimate alone.
            self.times.relax()
            return None
        run = Run(self._take(size), size, now, self.times.estimate(size))
        self._running += 1
        return run

    def finish(self, run: Run[T], seconds: float | None) -> None:
        """`run` ended, its instance is free. `seconds`: what it took; None if that teaches nothing."""
        self._running -= 1
        if seconds is not None:
            self.times.learn(run.row_count, seconds)

    def drops(self) -> list[Drop[T]]:
        """What was dropped since the last call."""
        taken, self._drops = self._drops, []
        return taken

    def wake_at(self) -> float | None:
        """When `start` should be called though nothing else happens: company waited for, or a deadline."""
        if not self._lots:
            return None
        earliest = min(lot.deadlines[0] for lot in self._lots)
        return earliest if self._running >= self.limits.instances else min(earliest, self._due())

    def _lots_of(
        self, call: T, rows: Sequence[int], priorities: Sequence[int], deadlines: Sequence[float], now: float
    ) -> list[_Lot[T]]:
        if min(priorities) == max(priorities):
            groups: Mapping[int, Sequence[int]] = {priorities[0]: range(len(rows))}
        else:
            groups = {p: [i for i, own in enumerate(priorities) if own == p] for p in set(priorities)}
        lots = []
        for priority, members in groups.items():
            pairs = sorted([(deadlines[i], rows[i]) for i in members])
            lots.append(
                _Lot(call, now, priority, [d for d, _ in pairs], [r for _, r in pairs], next(self._serial))
            )
        return lots

    def _shed(self) -> None:
        """Drops the last in order until the queue is within its bound: lowest priority, latest deadline."""
        excess = self.queued - self.limits.max_queue_rows
        hint = self._drain_time()
        while excess > 0:
            lot = self._lots[-1]
            shed = min(excess, len(lot.rows))
            self._drops.append(Drop(lot.call, lot.rows[-shed:], Why.OVERLOADED, hint))
            del lot.rows[-shed:], lot.deadlines[-shed:]
            if not lot.rows:
                self._lots.pop()
            self.queued -= shed
            excess -= shed

    def _drain_time(self) -> float:
        runs = self.limits.max_queue_rows / (self.limits.max_rows * self.limits.instances)
        return max(runs, 1.0) * self.times.estimate(self.limits.max_rows)

    def _due(self) -> float:
        """When the rows that wait should run, given an idle instance; −inf: at once."""
        delay = self.limits.max_delay
        if not delay or self.queued >= self.limits.max_rows:
            return float("-inf")
        # Waiting for company must not make anyone late: leave room for twice the run, and for waking up.
        earliest = min(lot.deadlines[0] for lot in self._lots)
        oldest = min(lot.arrived for lot in self._lots)
        return min(oldest + delay, earliest - 2 * self.times.estimate(self.queued) - 0.001)

    def _fit(self, now: float) -> int:
        """Rows of the next run, 0 if none is left; drops the rows that would be late.

        The run shrinks, to a quarter at most, if that saves its first row; below that, saving one row
        costs the others too much, and the row is dropped instead.
        """
        while self._lots:
            planned = min(self.queued, self.limits.max_rows)
            first = self._lots[0].deadlines[0]
            sizes = [max(planned >> halved, 1) for halved in range(3)]
            fitting = next((n for n in sizes if now + self.times.estimate(n) < first), 0)
            self._drop_until(now + self.times.estimate(fitting or sizes[-1]), Why.TOO_LATE)
            if fitting:
                return min(fitting, self.queued)
        return 0

    def _drop_until(self, limit: float, why: Why) -> None:
        """Drops the rows whose deadline is at or before `limit`."""
        if not any(lot.deadlines[0] <= limit for lot in self._lots):
            return
        for lot in self._lots:
            late = bisect_right(lot.deadlines, limit)
            if late:
                self._drops.append(Drop(lot.call, lot.cut(late), why))
                self.queued -= late
        self._lots = sorted((lot for lot in self._lots if lot.rows), key=_order)

    def _take(self, size: int) -> list[Piece[T]]:
        """The first `size` rows in order, as one piece per call."""
        taken: dict[T, Piece[T]] = {}
        whole = size == self.queued
        self.queued -= size
        while size:
            lot = self._lots.pop(0)
            # Lots overlap in deadline; when all rows go, the order between them does not matter.
            rows = lot.cut(len(lot.rows) if whole else min(size, self._before_next(lot)))
            taken.setdefault(lot.call, Piece(lot.call, [], lot.arrived)).rows.extend(rows)
            size -= len(rows)
            if lot.rows:
                insort(self._lots, lot, key=_order)
        return list(taken.values())

    def _before_next(self, lot: _Lot[T]) -> int:
        """Rows of `lot` that come before the first row of the lot that is now foremost; at least 1."""
        if not self._lots or self._lots[0].priority != lot.priority:
            return len(lot.rows)
        return max(bisect_right(lot.deadlines, self._lots[0].deadlines[0]), 1)
