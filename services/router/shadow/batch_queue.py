"""Batches that wait for work after their answers: first in, first out, bounded by rows and bytes."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A batch: its length is in rows; `size`: bytes that it keeps in memory."""

    @property
    def size(self) -> int: ...

    def __len__(self) -> int: ...


B = TypeVar("B", bound=Sized)


class BatchQueue(Generic[B]):
    """`rows` and `bytes` wait."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._waiting: deque[B] = deque()
        self.rows = self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def refusal(self, rows: int, size: int) -> str:
        """Why a batch of so many rows and bytes does not fit: `queue_rows` or `queue_bytes`; "" if it does."""
        if self.rows + rows > self._max_rows:
            return "queue_rows"
        return "queue_bytes" if self.bytes + size > self._max_bytes else ""

    def put(self, batch: B) -> None:
        """Adds a batch for which there was no refusal."""
        self._waiting.append(batch)
        self.rows += len(batch)
        self.bytes += batch.size

    def pop(self) -> B:
        """Removes the first. Raises IndexError if there is none."""
        batch = self._waiting.popleft()
        self.rows -= len(batch)
        self.bytes -= batch.size
        return batch
