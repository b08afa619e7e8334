"""Decides when rows run, in which batch, and which are dropped. A state machine; the caller passes the time.

Natural batching: an idle instance takes what waits at once; while all instances are busy, rows collect in the queue.
Rows leave the queue by priority (high first), then by deadline (early first), and no tenant gets far ahead of the
others. A row that can't meet its deadline is dropped before it runs: an overloaded executor must not spend time on rows
that nobody waits for any more.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic

from services.executor.scheduling.queue import RowQueue, RunPart, Segment, T, group_rows
from services.executor.scheduling.run_time import RunTimes

__all__ = ["DropReason", "DroppedRows", "Limits", "RunPart", "ScheduledRun", "Scheduler"]

# How many full runs a tenant may be ahead of others that wait.
_LEAD_RUNS = 2
_UNLIMITED = 1 << 62


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one model's queue and runs. Sizes are in rows."""

    max_rows: int
    max_queue_rows: int
    # Runs at the same time.
    instances: int = 1
    # Seconds that a row may wait for a larger batch though an instance is idle; 0: natural batching only.
    max_delay: float = 0.0
    # Bytes of inputs in one run; a single row may have more.
    max_bytes: int = _UNLIMITED
    # Sizes that the engine runs, ascending; others are padded to the next larger one. Empty: it runs any size unpadded.
    buckets: tuple[int, ...] = ()
    # Priority from which rows use the low-latency lane; None: there is no lane.
    lane_priority: int | None = None
    # A run of the lane takes other rows only up to this size.
    lane_rows: int = 8
    # Instances that only the lane may use.
    lane_instances: int = 0
    # If a full run is expected to take less than this (seconds), one more is started ahead: then a free engine need not
    # wait for us. Not for longer runs: a more urgent row may come meanwhile.
    ahead: float = 0.0

    def padded(self, rows: int) -> int:
        """Rows that the engine computes for a run of `rows`."""
        if not self.buckets:
            return rows
        index = bisect_left(self.buckets, rows)
        return self.buckets[index] if index < len(self.buckets) else rows

    def in_lane(self, priority: int) -> bool:
        return self.lane_priority is not None and priority >= self.lane_priority


class DropReason(enum.Enum):
    """Why rows are dropped."""

    EXPIRED = "expired"
    # By the estimate, the run would end after the deadline.
    TOO_LATE = "too late"
    OVERLOADED = "overloaded"


@dataclass(slots=True, eq=False)
class ScheduledRun(Generic[T]):
    """One run of the model. Its batch is the rows of `parts`, in that order. `started`: monotonic seconds."""

    parts: list[RunPart[T]]
    row_count: int
    started: float
    # Estimated seconds; 0 if nothing is known.
    expected: float
    # Whether a row of the low-latency lane came first.
    lane: bool
    # The scheduler's generation when it started: see `Scheduler.switch_engine`.
    generation: int


@dataclass(frozen=True, slots=True)
class DroppedRows(Generic[T]):
    """Rows that will not run."""

    call: T
    rows: list[int]
    reason: DropReason
    # For OVERLOADED: seconds after which a retry makes sense.
    retry_after: float = 0.0


class Scheduler(Generic[T]):
    """Queue and batching of one model. Times are monotonic seconds.

    Each row that is offered comes out exactly once: in a ScheduledRun, in a DroppedRows, or by `withdraw`.
    """

    def __init__(self, limits: Limits, times: RunTimes | None = None) -> None:
        self.limits = limits
        self.times = times or RunTimes()
        self._queue: RowQueue[T] = RowQueue(_LEAD_RUNS * limits.max_rows)
        self._drops: list[DroppedRows[T]] = []
        self._serial = count()
        self._running = 0
        # Those of them that are not of the lane.
        self._ordinary = 0
        self._generation = 0

    @property
    def queued(self) -> int:
        """Number of rows that wait."""
        return self._queue.rows

    @property
    def idle(self) -> bool:
        return not self._running and not self._queue.rows

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
        """Puts `rows` (positions) of `call` into the queue, with the priority, tenant and deadline of each.

        `row_bytes`: bytes of inputs per row, on average. If the queue is full, rows are dropped; see `drops`.
        """
        for priority, tenant, due, positions in group_rows(rows, priorities, tenants, deadlines):
            self._queue.add(
                Segment(call, now, priority, tenant, due, positions, row_bytes, next(self._serial))
            )
        if self._queue.rows > self.limits.max_queue_rows:
            self._drop_until(now, DropReason.EXPIRED)
            excess = self._queue.rows - self.limits.max_queue_rows
            if excess > 0:
                hint = self._drain_time()
                self._drops += [
                    DroppedRows(c, r, DropReason.OVERLOADED, hint) for c, r in self._queue.shed(excess)
                ]

    def withdraw(self, call: T) -> None:
        """Removes the queued rows of `call` without a DroppedRows: nobody waits for it any more."""
        self._queue.remove(call)

    def start(self, now: float) -> ScheduledRun[T] | None:
        """The run to begin now. None: nothing waits, no instance is free, or the batch should still grow."""
        self._drop_until(now, DropReason.EXPIRED)
        if not self._queue.rows or not self._free() or self._due() > now:
            return None
        size = self._fit(now)
        if not size:
            # All rows were dropped only because of the estimate.
            self.times.relax()
            return None
        lane = self.limits.in_lane(self._queue.first.priority)
        parts, size = self._queue.take(size, self.limits.max_bytes)
        return self._began(parts, size, now, lane)

    def start_directly(self, call: T, rows: int, first_deadline: float, now: float) -> ScheduledRun[T] | None:
        """The run of all rows of a call, past the queue: nothing waits, nothing runs, and they fit into one run.

        None: the rows must be offered. `first_deadline`: the earliest of its rows.
        """
        limits = self.limits
        if not self.idle or not 0 < rows <= limits.max_rows or limits.max_delay or limits.lane_instances:
            return None
        if now + self.estimate(rows) >= first_deadline:
            return None
        return self._began([RunPart(call, list(range(rows)), now)], rows, now, lane=False)

    def finish(self, run: ScheduledRun[T], seconds: float | None) -> None:
        """Says that `run` ended; frees its instance. `seconds`: its run time; None if it should not be learned."""
        if run.generation != self._generation:
            return
        self._running -= 1
        self._ordinary -= not run.lane
        if seconds is not None:
            self.times.learn(self.limits.padded(run.row_count), seconds)

    def switch_engine(self, limits: Limits, times: RunTimes) -> None:
        """Another engine runs the model from now on. All its instances are free; runs of the old one no longer count."""
        self.limits = limits
        self.times = times
        self._generation += 1
        self._running = self._ordinary = 0

    def drops(self) -> list[DroppedRows[T]]:
        """The rows dropped since the last call of this method."""
        taken, self._drops = self._drops, []
        return taken

    def wake_at(self) -> float | None:
        """When to call `start` if nothing else happens: a batch stops growing then, or a deadline passes. None: never."""
        if not self._queue.rows:
            return None
        earliest = self._queue.earliest
        return min(earliest, self._due()) if self._free() else earliest

    def _began(self, parts: list[RunPart[T]], size: int, now: float, lane: bool) -> ScheduledRun[T]:
        self._running += 1
        self._ordinary += not lane
        return ScheduledRun(parts, size, now, self.estimate(size), lane, self._generation)

    def estimate(self, rows: int) -> float:
        """Estimated seconds of a run of `rows`, padding included; 0 if nothing is known."""
        return self.times.estimate(self.limits.padded(rows))

    def _free(self) -> bool:
        """Whether an instance is free for the rows that come first."""
        limits = self.limits
        if self._running >= limits.instances:
            return self._may_go_ahead()
        # At least one instance is left to the others: else they would never run.
        if self._ordinary < max(limits.instances - limits.lane_instances, 1):
            return True
        return limits.in_lane(self._queue.first.priority)

    def _may_go_ahead(self) -> bool:
        """Whether one run may be started ahead, while every instance is busy."""
        limits = self.limits
        if not limits.ahead or self._running > limits.instances or self._queue.rows < limits.max_rows:
            return False
        return self.estimate(limits.max_rows) < limits.ahead

    def _drain_time(self) -> float:
        runs = self.limits.max_queue_rows / (self.limits.max_rows * self.limits.instances)
        return max(runs, 1.0) * self.estimate(self.limits.max_rows)

    def _due(self) -> float:
        """When the waiting rows should run if an instance is idle; −inf: at once."""
        limits, queue = self.limits, self._queue
        if not limits.max_delay:
            return -math.inf
        if queue.rows >= limits.max_rows or limits.in_lane(queue.first.priority):
            return -math.inf
        # No row may become late while the batch grows: leave time for twice the run, and for waking up.
        oldest = min(segment.arrived for segment in queue)
        return min(oldest + limits.max_delay, queue.earliest - 2 * self.estimate(self._queue.rows) - 0.001)

    def _planned(self) -> int:
        """Rows of the next run, without regard to deadlines."""
        limits = self.limits
        if limits.lane_priority is None or not limits.in_lane(self._queue.first.priority):
            return min(self._queue.rows, limits.max_rows)
        in_lane = self._queue.rows_from(limits.lane_priority)
        return min(max(in_lane, min(self._queue.rows, limits.lane_rows)), limits.max_rows)

    def _fit(self, now: float) -> int:
        """Rows of the next run, 0 if none is left. Drops the rows that would be late.

        If a smaller run meets the deadline of the first row, the run shrinks to a half or a quarter. Below that, saving
        one row would cost the others too much: the row is dropped instead.
        """
        if self._running >= self.limits.instances:
            # It is started ahead, and begins when the run before it ends.
            now += self.estimate(self.limits.max_rows)
        while self._queue.rows:
            planned, first = self._planned(), self._queue.first.deadlines[0]
            for halved in range(3):
                size = max(planned >> halved, 1)
                ends = now + self.estimate(size)
                if ends < first:
                    break
            self._drop_until(ends, DropReason.TOO_LATE)
            if ends < first:
                return min(size, self._queue.rows)
        return 0

    def _drop_until(self, limit: float, reason: DropReason) -> None:
        """Drops the rows whose deadline is at or before `limit`."""
        if limit >= self._queue.earliest:
            late = self._queue.remove_until(limit)
            self._drops += [DroppedRows(call, rows, reason) for call, rows in late]
