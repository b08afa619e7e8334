"""Batches that wait to be run on a shadow: bounded by rows and bytes. A batch that does not fit is dropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.shadow.batch_queue import BatchQueue
from services.router.shadow.route import ShadowRoute
from services.router.ticks.counters import Part


@dataclass(frozen=True, slots=True, eq=False)
class Copied:
    """A batch that was answered. `rows`: positions that are copied, None: all. `live`: the route that answered `part`, with its
    `result` and how long it took. `size`: bytes that it keeps in memory."""

    shadow: ShadowRoute
    live: Route
    part: Part
    result: RouteResult
    seconds: float
    rows: NDArray[np.intp] | None
    size: int

    @property
    def batch(self) -> Batch:
        return self.part.batch

    def __len__(self) -> int:
        return len(self.batch) if self.rows is None else len(self.rows)


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
        and _types(one.result.batch) == _types(other.result.batch)
        and one.result.columns.keys() == other.result.columns.keys()
    )


def _types(batch: Batch) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(c.name, c.dtype, c.row_shape) for c in batch.columns.values()]
