"""Batches that wait for work after their answers: first in, first out, bounded by rows and bytes; those of shadows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.shadow.route import ShadowRoute
from services.router.ticks.counters import Part


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """A batch that was answered. `rows`: positions that are copied, None: all. `live`: the route that answered `part`, with its
    `result`. `size`: bytes that it keeps in memory."""

    shadow: ShadowRoute
    live: Route
    part: Part
    result: RouteResult
    rows: NDArray[np.intp] | None
    size: int

    @property
    def batch(self) -> Batch:
        return self.part.batch

    def __len__(self) -> int:
        return len(self.batch) if self.rows is None else len(self.rows)


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


class ShadowQueue(BatchQueue[Copied]):
    """Gives copies that can run together."""

    def take(self, rows: int) -> list[Copied]:
        """Removes the first, and those behind it that can run with it, up to so many rows in all. Raises IndexError if there is
        none."""
        taken = [self.pop()]
        count = len(taken[0])
        while self._waiting and _together(taken[0], self._waiting[0]):
            count += len(self._waiting[0])
            if count > rows:
                break
            taken.append(self.pop())
        return taken


def _together(one: Copied, other: Copied) -> bool:
    """Whether they can be one batch: on the same routes, with the same columns."""
    same = one.shadow is other.shadow and one.live is other.live
    return (
        same
        and _types(one.batch) == _types(other.batch)
        and one.result.columns.keys() == other.result.columns.keys()
    )


def _types(batch: Batch) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(c.name, c.dtype, c.row_shape) for c in batch.columns.values()]
