"""What waits to be told: a lane for each kind of facts, and one bound for all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
# A part of a message is not much larger, unless a single item is.
MESSAGE_BYTES = 2 << 20


class Queue:
    """`left`: bytes that may still wait. `came`: set while something waits; `full`: set when enough for a message does."""

    def __init__(self, max_bytes: int) -> None:
        self.left = self.max_bytes = max_bytes
        self.came = asyncio.Event()
        self.full = asyncio.Event()
        self._lanes: list[Lane[Any]] = []

    def add(self, lane: Lane[Any]) -> None:
        self._lanes.append(lane)

    def settle(self) -> None:
        """Something was drained."""
        if not any(lane.is_full for lane in self._lanes):
            self.full.clear()
        if not any(lane.rows for lane in self._lanes):
            self.came.clear()


class Waiting(NamedTuple, Generic[Item]):
    """`rows`: facts that the item holds; `size`: bytes that it keeps in memory."""

    item: Item
    rows: int
    size: int


class Lane(Generic[Item]):
    """Facts of one kind, in their order. `share`: of the queue's bytes that may be of this kind; `message_rows`: facts of one
    message, about; `lost`: told how many facts found no room."""

    def __init__(
        self, queue: Queue, message_rows: int, lost: Callable[[int], None], share: float = 1.0
    ) -> None:
        self.queue = queue
        self.rows = self.bytes = 0
        self.waiting: deque[Waiting[Item]] = deque()
        self.message_rows = message_rows
        self.lost = lost
        self._most_bytes = share * queue.max_bytes
        queue.add(self)

    @property
    def is_full(self) -> bool:
        """Whether enough for a message waits."""
        return self.rows >= self.message_rows or self.bytes >= MESSAGE_BYTES

    def append(self, item: Item, rows: int, size: int) -> bool:
        """Whether there was room. A single item always has some."""
        if self.waiting and (size > self.queue.left or self.bytes + size > self._most_bytes):
            self.lost(rows)
            return False
        self.waiting.append(Waiting(item, rows, size))
        self.rows += rows
        self.bytes += size
        self.queue.left -= size
        self.queue.came.set()
        if self.is_full:
            self.queue.full.set()
        return True

    def drain(self) -> list[Item]:
        """Removes the first items, about a message's worth."""
        drained: list[Item] = []
        rows, room = self.message_rows, MESSAGE_BYTES
        while self.waiting and rows > 0 and room > 0:
            one = self.waiting.popleft()
            drained.append(one.item)
            rows -= one.rows
            room -= one.size
            self.rows -= one.rows
            self.bytes -= one.size
            self.queue.left += one.size
        self.queue.settle()
        return drained
