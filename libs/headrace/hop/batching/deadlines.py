"""Whose time is over: a heap of deadlines whose entries may have been answered meanwhile. Pure."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar


class Answerable(Protocol):
    """An entry that somebody waits for, until it is answered."""

    def done(self) -> bool: ...


E = TypeVar("E", bound=Answerable)
_SWEEP = 256


class Due(Generic[E]):
    """Entries by deadline (monotonic seconds). Answered ones are forgotten when they come up or pile up."""

    __slots__ = ("_heap", "_sequence", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, E]] = []
        self._sequence = 0  # entries need not be comparable
        self._sweep_at = _SWEEP

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, entry: E) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, entry))
        if len(self._heap) > self._sweep_at:
            self._heap = [e for e in self._heap if not e[2].done()]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _SWEEP

    def earliest(self) -> float | None:
        """Deadline of the first entry that is not answered; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].done():
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now: float) -> list[E]:
        """The unanswered entries whose deadline has come."""
        taken = []
        while (first := self.earliest()) is not None and first <= now:
            taken.append(heapq.heappop(self._heap)[2])
        return taken
