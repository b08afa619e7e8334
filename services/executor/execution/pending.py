"""A call in the executor, from its arrival until each of its rows has run or failed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from headrace.columns import Batch, RowError, Timing
from services.executor.backends.backend import Tensors
from services.executor.execution.tensors import Part


# Not frozen: a frozen dataclass takes three times as long to make, and one is made per call.
@dataclass(slots=True, eq=False)
class Waiting:
    """One call. `pending`: rows that have neither run nor failed; `backend`: who ran the last of those that did."""

    batch: Batch
    tensors: Tensors
    errors: dict[int, RowError]
    received: float
    pending: int
    # None while the call is served at once, on the spot.
    done: asyncio.Future[None] | None = None
    backend: str = ""
    standby: bool = False
    parts: list[Part] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    def settle(self, rows: int) -> None:
        """That many rows more have their result or error."""
        self.pending -= rows
        if not self.pending and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def fail(self, rows: list[int], error: RowError) -> None:
        self.errors.update(dict.fromkeys(rows, error))
        self.settle(len(rows))

    @property
    def row_bytes(self) -> int:
        """Bytes of inputs per row, on average; texts count as what points to them."""
        return sum(array.nbytes for array in self.tensors.values()) // max(len(self.batch), 1)


# Not frozen either; nobody changes one after it is made.
@dataclass(slots=True, eq=False)
class Executed:
    """A call's answer. `cold_start`: it waited until the model was made ready."""

    batch: Batch
    version: str
    sha256: str
    backend: str
    standby: bool
    cold_start: bool = False
