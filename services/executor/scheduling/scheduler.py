"""When rows run, together with which others, and which never do: a state machine, the clock passed in.

Natural batching: an idle instance takes what is there at once; while all are busy, rows gather. Rows
leave in order of priority (high first), then deadline (early first), and no tenant runs far ahead of the
others. A row that can't make its deadline is dropped before it runs, so that an overloaded executor works
for rows that someone still waits for.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic

from services.executor.scheduling.queue import RowQueue, RunPart, Segment, T, group_rows
from services.executor.scheduling.run_time import RunTimes

__all__ = ["DropReason", "DroppedRows", "Limits", "RunPart", "ScheduledRun", "Scheduler"]

# A tenant may be this many full runs ahead of the others that wait.
_LEAD_RUNS = 2


class DropReason(enum.Enum):
    """DropReason rows are dropped."""

    EXPIRED = "expired"
    # The estimate says that the run would end after the deadline.
    TOO_LATE = "too late"
    OVERLOADED = "overloaded"


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledRun(Generic[T]):
    """One run of the model over the rows of its parts."""

    parts: list[RunPart[T]]
    row_count: int
    started: float
    # Seconds that it will take; 0 if nothing is known.
    expected: float
    # Whether the low-latency lane began it.
    lane: bool
    # Which of the scheduler's generations started it: see `Scheduler.renew`.
    generation: int


@dataclass(frozen=True, slots=True)
class DroppedRows(Generic[T]):
    """Rows that will not run."""

    call: T
    rows: list[int]
    reason: DropReason
    # For OVERLOADED: seconds after which trying again makes sense.
    retry_after: float = 0.0


class Scheduler(Generic[T]):
    """Queue and batching of one model.

    Each row offered comes out exactly once: in a ScheduledRun, in a DroppedRows, or by `withdraw`.
    """

    def __init__(self, limits: Limits, times: RunTimes | None = None) -> None:
        self.limits = limits
        self.times = times or RunTimes()
        self._queue: RowQueue[T] = RowQueue(_LEAD_RUNS * limits.max_rows)
        self._drops: list[DroppedRows[T]] = []
        self._serial = count()
        self._running = 0
        # Of those, runs that the lane did not begin.
        self._ordinary = 0
        self._generation = 0

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._running and not self._queue

    def offer(
        self,
        call: T,
        rows: Sequence[int],
        priorities: Sequence[int],
        tenants: Sequence[str],
        deadlines: Sequence[float],
        now: float,
        row_bytes: int = 0,
    ) -> None:
        """`rows` (positions) of `call` ask to run; priority, tenant and deadline (on `now`'s clock) of each.

        `row_bytes`: bytes of inputs per row, on average.
        """
        for (priority, tenant), (due, positions) in group_rows(rows, priorities, tenants, deadlines):
            self._queue.add(
                Segment(call, now, priority, tenant, due, positions, row_bytes, next(self._serial))
            )
        if self.queued > self.limits.max_queue_rows:
            self._drop_until(now, DropReason.EXPIRED)
            excess = self.queued - self.limits.max_queue_rows
            if excess > 0:
                hint = self._drain_time()
                self._drops += [
                    DroppedRows(c, r, DropReason.OVERLOADED, hint) for c, r in self._queue.shed(excess)
                ]

    def withdraw(self, call: T) -> None:
        """Nobody waits for `call` any more: its queued rows go, without a DroppedRows."""
        self._queue.remove(call)

    def start(self, now: float) -> ScheduledRun[T] | None:
        """The run to begin now. None: nothing waits, no instance is free, or company is waited for."""
        self._drop_until(now, DropReason.EXPIRED)
        if not self._queue or not self._free() or self._due() > now:
            return None
        size = self._fit(now)
        if not size:
            # All were dropped on the word of the estimate alone.
            self.times.relax()
            return None
        lane = self.limits.in_lane(self._queue.first.priority)
        parts, size = self._queue.take(size, self.limits.max_bytes)
        return self._began(parts, size, now, lane)

    def start_directly(self, call: T, rows: int, first_deadline: float, now: float) -> ScheduledRun[T] | None:
        """The run of all rows of a call that need not be offered: nothing else is here, and they fit into one run.

        None: they must be offered.
        """
        limits = self.limits
        if not self.idle or not 0 < rows <= limits.max_rows or limits.max_delay or limits.lane_instances:
            return None
        if now + self.estimate(rows) >= first_deadline:
            return None
        return self._began([RunPart(call, list(range(rows)), now)], rows, now, lane=False)

    def finish(self, run: ScheduledRun[T], seconds: float | None) -> None:
        """`run` ended, its instance is free. `seconds`: what it took; None if that teaches nothing."""
        if run.generation != self._generation:
            return
        self._running -= 1
        self._ordinary -= not run.lane
        if seconds is not None:
            self.times.learn(self.limits.padded(run.row_count), seconds)

    def switch_engine(self, limits: Limits, times: RunTimes) -> None:
        """Another engine runs the model from now on: its instances are free, whatever the old one is doing."""
        self.limits = limits
        self.times = times
        self._generation += 1
        self._running = self._ordinary = 0

    def drops(self) -> list[DroppedRows[T]]:
        """What was dropped since the last call."""
        taken, self._drops = self._drops, []
        return taken

    def wake_at(self) -> float | None:
        """When `start` should be called though nothing else happens: company waited for, or a deadline."""
        if not self._queue:
            return None
        earliest = self._queue.earliest
        return min(earliest, self._due()) if self._free() else earliest

    def _began(self, parts: list[RunPart[T]], size: int, now: float, lane: bool) -> ScheduledRun[T]:
        self._running += 1
        self._ordinary += not lane
        return ScheduledRun(parts, size, now, self.estimate(size), lane, self._generation)

    def estimate(self, rows: int) -> float:
        """Seconds that a run of `rows` takes, padding included; 0 if nothing is known."""
        return self.times.estimate(self.limits.padded(rows))

    def _free(self) -> bool:
        """Whether an instance is free for the rows that come first."""
        if self._running >= self.limits.instances:
            return self._may_go_ahead()
        if self.limits.in_lane(self._queue.first.priority):
            return True
        # A model whose every instance were the lane's would never run the others.
        return self._ordinary < max(self.limits.instances - self.limits.lane_instances, 1)

    def _may_go_ahead(self) -> bool:
        """Whether one run may be handed out though every instance is busy."""
        limits = self.limits
        if not limits.ahead or self._running > limits.instances or self.queued < limits.max_rows:
            return False
        return self.estimate(limits.max_rows) < limits.ahead

    def _drain_time(self) -> float:
        runs = self.limits.max_queue_rows / (self.limits.max_rows * self.limits.instances)
        return max(runs, 1.0) * self.estimate(self.limits.max_rows)

    def _due(self) -> float:
        """When the rows that wait should run, given an idle instance; −inf: at once."""
        limits, waiting = self.limits, self._queue
        enough = limits.preferred[0] if limits.preferred else limits.max_rows
        if not limits.max_delay or self.queued >= enough or limits.in_lane(waiting.first.priority):
            return -math.inf
        # RowQueue for company must not make anyone late: leave room for twice the run, and for waking up.
        oldest = min(segment.arrived for segment in waiting)
        return min(oldest + limits.max_delay, waiting.earliest - 2 * self.estimate(self.queued) - 0.001)

    def _planned(self) -> int:
        """Rows of the next run, deadlines aside."""
        limits = self.limits
        if limits.lane_priority is None or not limits.in_lane(self._queue.first.priority):
            return limits.size(self.queued)
        alone = self._queue.lane(limits.lane_priority)
        return limits.size(max(alone, min(self.queued, limits.lane_rows)))

    def _fit(self, now: float) -> int:
        """Rows of the next run, 0 if none is left; drops the rows that would be late.

        The run shrinks, to a quarter at most, if that saves its first row; below that, saving one row
        costs the others too much, and the row is dropped instead.
        """
        if self._running >= self.limits.instances:
            # It is handed out ahead, and begins when the one before it ends.
            now += self.estimate(self.limits.max_rows)
        while self._queue:
            planned = self._planned()
            first = self._queue.first.deadlines[0]
            sizes = [max(planned >> halved, 1) for halved in range(3)]
            fitting = next((n for n in sizes if now + self.estimate(n) < first), 0)
            self._drop_until(now + self.estimate(fitting or sizes[-1]), DropReason.TOO_LATE)
            if fitting:
                return min(fitting, self.queued)
        return 0

    def _drop_until(self, limit: float, why: DropReason) -> None:
        """Drops the rows whose deadline is at or before `limit`."""
        if limit >= self._queue.earliest:
            self._drops += [DroppedRows(call, rows, why) for call, rows in self._queue.remove_until(limit)]


_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one model. Sizes are in rows, ascending where there are several."""

    max_rows: int
    max_queue_rows: int
    # Runs at the same time.
    instances: int = 1
    # Seconds a row may wait for company though an instance is idle; 0: natural batching alone.
    max_delay: float = 0.0
    # Bytes of inputs in one run; a single row may have more.
    max_bytes: int = _NEVER
    # A run takes the largest of these that it can fill, and whatever is there if it can fill none.
    preferred: tuple[int, ...] = ()
    # Sizes that the engine runs; others are padded up to the next. Empty: it runs any size as it is.
    buckets: tuple[int, ...] = ()
    # Priority from which rows use the low-latency lane; None: there is no lane.
    lane_priority: int | None = None
    # A run that the lane begins takes others along only up to this size.
    lane_rows: int = 8
    # Instances that only the lane may take.
    lane_instances: int = 0
    # Full runs expected to take fewer seconds than this are handed out one ahead: the engine, when it comes free,
    # need not wait for us. Longer ones are not: who comes meanwhile may be in a greater hurry.
    ahead: float = 0.0

    def size(self, waiting: int) -> int:
        """Rows of a run when `waiting` ≥ 1 wait."""
        most = min(waiting, self.max_rows)
        if not self.preferred:
            return most
        fitting = bisect_right(self.preferred, most)
        return self.preferred[fitting - 1] if fitting else most

    def padded(self, rows: int) -> int:
        """Rows that the engine really runs for a run of `rows`."""
        if not self.buckets:
            return rows
        fitting = bisect_left(self.buckets, rows)
        return self.buckets[fitting] if fitting < len(self.buckets) else rows

    def in_lane(self, priority: int) -> bool:
        """Whether rows of that priority use the low-latency lane."""
        return self.lane_priority is not None and priority >= self.lane_priority
