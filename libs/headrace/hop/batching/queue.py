"""Queue of natural batching, a pure state machine: which items wait, which are sent together, which are refused.

One lane per key. While fewer than `window` calls of a lane are in flight, its items are sent at once; otherwise they wait
and are sent together. Calls that were passed over, as they last far too long, are not counted. `DeadlineHeap` finds the items
whose deadline has passed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from headrace.hop.client.settings import CoalesceRules

Item = TypeVar("Item")
Handle = TypeVar("Handle")

# Withdrawn entries stay in their queue until a batch is cut. They are removed when there are this many and they are the
# majority.
_SWEEP = 64
# A rank has the priority above so many bits.
_RANK_BITS = 32


class QueuedItem(Generic[Item, Handle]):
    """One item and the handle to answer its caller. `deadline` in monotonic seconds, `size` in bytes.

    `prefer`: index of the replica that it should go to; None: any. The same for all items of a lane.
    """

    __slots__ = ("deadline", "handle", "item", "lane", "prefer", "priority", "rank", "rows", "size")

    def __init__(
        self,
        item: Item,
        rows: int,
        size: int,
        deadline: float,
        priority: int,
        handle: Handle,
        prefer: int | None = None,
    ) -> None:
        self.item = item
        self.rows = rows
        self.size = size
        self.deadline = deadline
        self.priority = priority
        # Entries of a lower rank make room for it: those of a lower priority, then those of many more rows, so that one caller
        # with thousands of rows keeps out none with a few.
        self.rank = (priority << _RANK_BITS) - rows.bit_length()
        self.handle = handle
        self.prefer = prefer
        self.lane: Lane[Item, Handle] | None = None  # where it waits; None: it was sent or withdrawn


class Lane(Generic[Item, Handle]):
    """Items of one key: a queue per priority, and the number of calls in flight."""

    __slots__ = ("in_flight", "key", "passed_over", "queues", "rows", "withdrawn")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.in_flight = 0
        # Of those, calls that are not counted.
        self.passed_over = 0
        self.rows = 0
        self.withdrawn = 0
        self.queues: dict[int, deque[QueuedItem[Item, Handle]]] = {}


class BatchQueue(Generic[Item, Handle]):
    """The waiting items of one method: at most `max_waiting_rows` rows, unless a single item has more."""

    __slots__ = ("_lanes", "_rows_at", "_rules", "waiting_rows")

    def __init__(self, rules: CoalesceRules) -> None:
        self._rules = rules
        self._lanes: dict[Hashable, Lane[Item, Handle]] = {}
        self._rows_at: dict[int, int] = {}  # waiting rows per rank
        self.waiting_rows = 0

    def offer(self, key: Hashable, entry: QueuedItem[Item, Handle]) -> list[QueuedItem[Item, Handle]]:
        """Queues the entry. Returns what is refused instead: entries of lower rank, or the entry itself."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        refused: list[QueuedItem[Item, Handle]] = []
        excess = self.waiting_rows + entry.rows - self._rules.max_waiting_rows
        # If nothing waits before it and the window is open, it is sent at once, whatever its size.
        if excess > 0 and (lane.rows or self._is_closed(lane)):
            if self._less_important(entry.rank) < excess:
                self._tidy(lane)
                return [entry]
            refused = self._shed(excess)
        queue = lane.queues.get(entry.priority)
        if queue is None:
            queue = lane.queues[entry.priority] = deque()
        queue.append(entry)
        entry.lane = lane
        self._count(lane, entry, entry.rows)
        self._lanes[key] = lane  # shedding may have emptied and forgotten it
        return refused

    def full(self, key: Hashable) -> bool:
        """Whether the lane's next call is full and may be sent: waiting for more items has no use."""
        lane = self._lanes.get(key)
        return lane is not None and lane.rows >= self._rules.max_rows and not self._is_closed(lane)

    def cut(
        self, key: Hashable, now: float
    ) -> tuple[list[QueuedItem[Item, Handle]], list[QueuedItem[Item, Handle]]] | None:
        """The next call of a lane: (items to send, items whose deadline has passed). None: nothing may be sent now.

        Higher priorities first, in order of arrival within one. If there are items to send, `finished` must follow.
        """
        lane = self._lanes.get(key)
        if lane is None or not lane.rows or self._is_closed(lane):
            return None
        batch: list[QueuedItem[Item, Handle]] = []
        late: list[QueuedItem[Item, Handle]] = []
        for priority in sorted(lane.queues, reverse=True) if len(lane.queues) > 1 else list(lane.queues):
            if not self._drain(lane, lane.queues[priority], now, batch, late):
                break
            del lane.queues[priority]
        lane.in_flight += bool(batch)
        self._tidy(lane)
        return batch, late

    def waits(self, key: Hashable) -> bool:
        """Whether items of the lane wait."""
        lane = self._lanes.get(key)
        return lane is not None and lane.rows > 0

    def pass_over(self, key: Hashable, calls: int) -> None:
        """So many calls in flight are not counted any more."""
        self._lanes[key].passed_over += calls

    def finished(self, key: Hashable, passed_over: bool = False) -> None:
        """A call of the lane has ended. `passed_over`: it was not counted any more."""
        lane = self._lanes[key]
        lane.in_flight -= 1
        lane.passed_over -= passed_over
        self._tidy(lane)

    def withdraw(self, entry: QueuedItem[Item, Handle]) -> bool:
        """Removes an entry that no caller waits for any more. False if it was sent or withdrawn before."""
        lane = entry.lane
        if lane is None:
            return False
        entry.lane = None
        self._count(lane, entry, -entry.rows)
        lane.withdrawn += 1
        if lane.withdrawn > _SWEEP and lane.withdrawn * 2 > sum(map(len, lane.queues.values())):
            self._sweep(lane)
        self._tidy(lane)
        return True

    def _is_closed(self, lane: Lane[Item, Handle]) -> bool:
        return lane.in_flight - lane.passed_over >= self._rules.window

    def _drain(
        self,
        lane: Lane[Item, Handle],
        queue: deque[QueuedItem[Item, Handle]],
        now: float,
        batch: list[QueuedItem[Item, Handle]],
        late: list[QueuedItem[Item, Handle]],
    ) -> bool:
        """Moves entries that fit from the queue into the batch; False if some stayed in the queue."""
        rows, size = sum(e.rows for e in batch), sum(e.size for e in batch)
        while queue:
            entry = queue[0]
            if entry.lane is None:
                queue.popleft()
                lane.withdrawn -= 1
                continue
            expired = entry.deadline <= now
            if not expired:
                rows, size = rows + entry.rows, size + entry.size
                if batch and (rows > self._rules.max_rows or size > self._rules.max_bytes):
                    return False
            queue.popleft()
            entry.lane = None
            self._count(lane, entry, -entry.rows)
            (late if expired else batch).append(entry)
        return True

    def _less_important(self, rank: int) -> int:
        return sum(rows for r, rows in self._rows_at.items() if r < rank)

    def _shed(self, rows: int) -> list[QueuedItem[Item, Handle]]:
        """Removes at least `rows` rows: lowest rank first, and the newest in a lane first."""
        shed: list[QueuedItem[Item, Handle]] = []
        for rank in sorted(self._rows_at):
            for lane in list(self._lanes.values()):
                queue = lane.queues.get(-(-rank >> _RANK_BITS), deque())
                while queue and queue[-1].lane is None:
                    queue.pop()
                    lane.withdrawn -= 1
                for entry in reversed(queue):
                    if rows <= 0:
                        return shed
                    if entry.rank == rank and self.withdraw(entry):
                        rows -= entry.rows
                        shed.append(entry)
        return shed

    def _count(self, lane: Lane[Item, Handle], entry: QueuedItem[Item, Handle], rows: int) -> None:
        lane.rows += rows
        self.waiting_rows += rows
        left = self._rows_at.get(entry.rank, 0) + rows
        if left:
            self._rows_at[entry.rank] = left
        else:
            self._rows_at.pop(entry.rank, None)

    def _sweep(self, lane: Lane[Item, Handle]) -> None:
        lane.queues = {p: deque(e for e in q if e.lane is not None) for p, q in lane.queues.items()}
        lane.withdrawn = 0

    def _tidy(self, lane: Lane[Item, Handle]) -> None:
        """Removes a lane without items and calls, so that old keys cost no memory."""
        if not lane.rows and not lane.in_flight:
            self._lanes.pop(lane.key, None)


class Answerable(Protocol):
    """An entry that is done once it is answered."""

    def done(self) -> bool: ...


E = TypeVar("E", bound=Answerable)
_HEAP_SWEEP = 256


class DeadlineHeap(Generic[E]):
    """Entries by deadline (monotonic seconds). Answered ones are removed when they reach the top or become many."""

    __slots__ = ("_heap", "_sequence", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, E]] = []
        self._sequence = 0  # entries need not be comparable
        self._sweep_at = _HEAP_SWEEP

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, entry: E) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, entry))
        if len(self._heap) > self._sweep_at:
            self._heap = [e for e in self._heap if not e[2].done()]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _HEAP_SWEEP

    def earliest(self) -> float | None:
        """Deadline of the first entry that is not answered; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].done():
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now: float) -> list[E]:
        """Removes and returns the unanswered entries whose deadline has passed."""
        taken = []
        while (first := self.earliest()) is not None and first <= now:
            taken.append(heapq.heappop(self._heap)[2])
        return taken
