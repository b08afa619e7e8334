"""Queue of natural batching, a pure state machine: which items wait, which are sent together, which are refused.

One lane per key. While fewer than `window` calls of a lane are in flight, its items are sent at once; otherwise they wait
and are sent together. Calls that were passed over, as they last far too long, are not counted. `DeadlineHeap` finds the items
whose deadline has passed.

Tenants have equal shares. In a lane, rows of one priority are sent by start-time fair queueing (Goyal, Vin and Cheng, 1996):
whoever sends thousands of rows delays another tenant's row by one call. When the queue is full, the tenant with the most
waiting rows gives room (longest queue drop; Suter and others, 1998).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from headrace.hop.client.settings import CoalesceRules

Item = TypeVar("Item")
Handle = TypeVar("Handle")

# Withdrawn entries stay in their queue until a batch is cut. They are removed when there are this many and they are the
# majority.
_SWEEP = 64
# Lanes, flows and finish times that are kept though nothing of theirs waits, so that the next item costs less.
_IDLE = 256


class QueuedItem(Generic[Item, Handle]):
    """One item and the handle to answer its caller. `deadline` in monotonic seconds, `size` in bytes.

    `prefer`: index of the replica that it should go to; None: any. The same for all items of a lane.
    """

    __slots__ = ("deadline", "flow", "handle", "item", "lane", "prefer", "priority", "rows", "size", "tenant")
    flow: Flow[Item, Handle]  # once it was queued

    def __init__(
        self,
        item: Item,
        tenant: Hashable,
        rows: int,
        size: int,
        deadline: float,
        priority: int,
        handle: Handle,
        prefer: int | None = None,
    ) -> None:
        self.item = item
        self.tenant = tenant
        self.rows = rows
        self.size = size
        self.deadline = deadline
        self.priority = priority
        self.handle = handle
        self.prefer = prefer
        self.lane: Lane[Item, Handle] | None = None  # where it waits; None: it was sent or withdrawn


class Flow(Generic[Item, Handle]):
    """What waits of one tenant and priority, in all lanes. `entries`: a set in the order of arrival."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.rows = 0
        self.entries: dict[QueuedItem[Item, Handle], None] = {}


class FairQueue(Generic[Item, Handle]):
    """Entries of one lane and priority. `heap`: by start time; entries of one start time in the order of arrival.

    Times are virtual, in rows: an entry starts where its tenant's last one finishes, but not before the last one that was sent,
    nor later than behind `most` rows, however many its tenant withdrew.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = self._last = 0
        self._finish: dict[Hashable, int] = {}
        self._sequence = count()  # entries need not be comparable
        self.heap: list[tuple[int, int, QueuedItem[Item, Handle]]] = []

    def push(self, entry: QueuedItem[Item, Handle], idle: bool) -> None:
        """`idle`: what was sent before has ended, so nobody's turn follows from it."""
        if idle:
            self._now = self._last
        start, now = self._finish.get(entry.tenant), self._now
        if start is None:
            start = self._add_tenant()
        elif start < now:
            start = now
        elif start > now + self._most:
            start = now + self._most
        self._finish[entry.tenant] = finish = start + entry.rows
        if finish > self._last:
            self._last = finish
        heappush(self.heap, (start, next(self._sequence), entry))

    def sent(self, start: int) -> None:
        """The entries up to this start time have left."""
        if start > self._now:
            self._now = start

    def _add_tenant(self) -> int:
        """The start of its first entry. Of many tenants those are remembered that have had most."""
        if len(self._finish) >= _IDLE:
            self._finish = dict(sorted(self._finish.items(), key=itemgetter(1))[-_IDLE // 2 :])
        return self._now

    def sweep(self) -> None:
        """Forgets what was withdrawn."""
        self.heap = [timed for timed in self.heap if timed[2].lane is not None]
        heapify(self.heap)


class Lane(Generic[Item, Handle]):
    """Items of one key: a queue per priority, and the number of calls in flight."""

    __slots__ = ("in_flight", "passed_over", "queues", "rows", "withdrawn")

    def __init__(self) -> None:
        self.in_flight = 0
        # Of those, calls that are not counted.
        self.passed_over = 0
        self.rows = 0
        self.withdrawn = 0
        self.queues: dict[int, FairQueue[Item, Handle]] = {}


class BatchQueue(Generic[Item, Handle]):
    """The waiting items of one method: at most `max_waiting_rows` rows, unless a single item has more."""

    def __init__(self, rules: CoalesceRules) -> None:
        self._rules = rules
        self._lanes: dict[Hashable, Lane[Item, Handle]] = {}
        self._flows: dict[tuple[int, Hashable], Flow[Item, Handle]] = {}
        self.waiting_rows = 0

    def offer(self, key: Hashable, entry: QueuedItem[Item, Handle]) -> list[QueuedItem[Item, Handle]]:
        """Queues the entry. Returns what is refused instead: entries that make room for it, or the entry itself."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._new_lane(key)
        flow = self._flows.get((entry.priority, entry.tenant))
        if flow is None:
            flow = self._new_flow(entry)
        refused: list[QueuedItem[Item, Handle]] = []
        rows = entry.rows
        excess = self.waiting_rows + rows - self._rules.max_waiting_rows
        # If nothing waits before it and the window is open, it is sent at once, whatever its size.
        if excess > 0 and (lane.rows or self._is_closed(lane)):
            refused = self._room(excess, entry.priority, flow.rows + rows)
            if not refused:
                return [entry]
            for other in refused:
                self.withdraw(other)
        queue = lane.queues.get(entry.priority)
        if queue is None:
            queue = lane.queues[entry.priority] = FairQueue(self._rules.max_waiting_rows)
        queue.push(entry, not (lane.rows or lane.in_flight))
        entry.lane, entry.flow = lane, flow
        flow.entries[entry] = None
        lane.rows += rows
        flow.rows += rows
        self.waiting_rows += rows
        return refused

    def start(self, key: Hashable) -> bool:
        """Whether a call may leave without having waited: nothing of the lane does, and its window is open. Then `finished` must
        follow."""
        lane = self._lanes.get(key)
        if lane is None or lane.rows or lane.in_flight - lane.passed_over >= self._rules.window:
            return False
        lane.in_flight += 1
        return True

    def closed(self, key: Hashable) -> bool:
        """Whether nothing of the lane may be sent now, as calls of it are in flight."""
        lane = self._lanes.get(key)
        return lane is not None and self._is_closed(lane)

    def full(self, key: Hashable) -> bool:
        """Whether the lane's next call is full and may be sent: waiting for more items has no use."""
        lane = self._lanes.get(key)
        return lane is not None and lane.rows >= self._rules.max_rows and not self._is_closed(lane)

    def cut(
        self, key: Hashable, now: float
    ) -> tuple[list[QueuedItem[Item, Handle]], list[QueuedItem[Item, Handle]]] | None:
        """The next call of a lane: (items to send, items whose deadline has passed). None: nothing may be sent now.

        Higher priorities first; within one, tenants in turns by their rows. If there are items to send, `finished` must follow.
        """
        lane = self._lanes.get(key)
        if lane is None or not lane.rows or self._is_closed(lane):
            return None
        batch: list[QueuedItem[Item, Handle]] = []
        late: list[QueuedItem[Item, Handle]] = []
        for priority in sorted(lane.queues, reverse=True) if len(lane.queues) > 1 else lane.queues:
            if not self._drain(lane, lane.queues[priority], now, batch, late):
                break
        if batch:
            lane.in_flight += 1
        return batch, late

    def waits(self, key: Hashable) -> bool:
        """Whether items of the lane wait."""
        lane = self._lanes.get(key)
        return lane is not None and lane.rows > 0

    def pass_over(self, key: Hashable, calls: int) -> None:
        """So many calls in flight are not counted any more."""
        self._lanes[key].passed_over += calls

    def finished(self, key: Hashable, passed_over: bool = False) -> bool:
        """A call of the lane has ended. `passed_over`: it was not counted any more. Returns whether items of the lane wait."""
        lane = self._lanes[key]
        lane.in_flight -= 1
        if passed_over:
            lane.passed_over -= 1
        return lane.rows > 0

    def withdraw(self, entry: QueuedItem[Item, Handle]) -> bool:
        """Removes an entry that no caller waits for any more. False if it was sent or withdrawn before."""
        lane = entry.lane
        if lane is None:
            return False
        entry.lane, flow = None, entry.flow
        del flow.entries[entry]
        lane.rows -= entry.rows
        flow.rows -= entry.rows
        self.waiting_rows -= entry.rows
        lane.withdrawn += 1
        if not lane.rows or (
            lane.withdrawn > _SWEEP and lane.withdrawn * 2 > sum([len(q.heap) for q in lane.queues.values()])
        ):
            for queue in lane.queues.values():
                queue.sweep()
            lane.withdrawn = 0
        return True

    def _is_closed(self, lane: Lane[Item, Handle]) -> bool:
        return lane.in_flight - lane.passed_over >= self._rules.window

    def _drain(
        self,
        lane: Lane[Item, Handle],
        queue: FairQueue[Item, Handle],
        now: float,
        batch: list[QueuedItem[Item, Handle]],
        late: list[QueuedItem[Item, Handle]],
    ) -> bool:
        """Moves entries that fit from the queue into the batch; False if some stayed in the queue."""
        rows, size = (sum([e.rows for e in batch]), sum([e.size for e in batch])) if batch else (0, 0)
        heap, rules, left = queue.heap, self._rules, 0
        last, fits = 0, True
        while heap:
            entry = heap[0][2]
            if entry.lane is None:
                lane.withdrawn -= 1
            else:
                if entry.deadline <= now:
                    late.append(entry)
                else:
                    rows += entry.rows
                    size += entry.size
                    if batch and (rows > rules.max_rows or size > rules.max_bytes):
                        fits = False
                        break
                    batch.append(entry)
                entry.lane, flow = None, entry.flow
                del flow.entries[entry]
                flow.rows -= entry.rows
                left += entry.rows
            last = heappop(heap)[0]
        queue.sent(last)
        lane.rows -= left
        self.waiting_rows -= left
        return fits

    def _new_lane(self, key: Hashable) -> Lane[Item, Handle]:
        if len(self._lanes) >= _IDLE:
            self._lanes = {k: lane for k, lane in self._lanes.items() if lane.rows or lane.in_flight}
        lane = self._lanes[key] = Lane[Item, Handle]()
        return lane

    def _new_flow(self, entry: QueuedItem[Item, Handle]) -> Flow[Item, Handle]:
        if len(self._flows) >= _IDLE:
            self._flows = {key: flow for key, flow in self._flows.items() if flow.rows}
        flow = self._flows[entry.priority, entry.tenant] = Flow[Item, Handle](entry.priority)
        return flow

    def _room(self, rows: int, priority: int, share: int) -> list[QueuedItem[Item, Handle]]:
        """Entries of at least `rows` rows that make room for one of the priority, whose tenant will then have `share` rows.

        Of lower priorities all, of the same one while their tenant has more than `share`; the lowest priority, the largest
        flow and the newest entry first. Empty if that is not enough.
        """
        found: list[QueuedItem[Item, Handle]] = []
        for flow in sorted(self._flows.values(), key=lambda f: (f.priority, -f.rows)):
            left = flow.rows
            for entry in reversed(flow.entries):
                if flow.priority > priority or (flow.priority == priority and left <= share):
                    break
                found.append(entry)
                rows -= entry.rows
                left -= entry.rows
                if rows <= 0:
                    return found
        return []


class Answerable(Protocol):
    """An entry that is done once it is answered."""

    def done(self) -> bool: ...


E = TypeVar("E", bound=Answerable)
_HEAP_SWEEP = 256


class DeadlineHeap(Generic[E]):
    """Entries by deadline (monotonic seconds). Answered ones are removed when they reach the top or become many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, E]] = []
        self._sequence = count()  # entries need not be comparable
        self._sweep_at = _HEAP_SWEEP

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, entry: E) -> None:
        heappush(self._heap, (deadline, next(self._sequence), entry))
        if len(self._heap) > self._sweep_at:
            self._heap = [e for e in self._heap if not e[2].done()]
            heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _HEAP_SWEEP

    def earliest(self) -> float | None:
        """Deadline of the first entry that is not answered; None if there is none."""
        heap = self._heap
        while heap and heap[0][2].done():
            heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now: float) -> list[E]:
        """Removes and returns the unanswered entries whose deadline has passed."""
        taken = []
        while (first := self.earliest()) is not None and first <= now:
            taken.append(heappop(self._heap)[2])
        return taken
