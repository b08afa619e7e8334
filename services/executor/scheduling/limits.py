"""Bounds of one model's queue and runs, and what sizes of run follow from them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

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
