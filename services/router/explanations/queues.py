"""What waits to be explained: predictions whose documents demand it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.router.events.ring import AnsweredBatch
from services.router.routes.route import Route
from services.router.routes.run import RouteResult


@dataclass(frozen=True, slots=True, eq=False)
class Demanded:
    """A batch that was answered. `noted`: names its predictions; `rows`: positions of those with an answer; `size`: bytes that
    it keeps in memory."""

    route: Route
    result: RouteResult
    noted: AnsweredBatch
    rows: Sequence[int]
    size: int

    def __len__(self) -> int:
        return len(self.rows)
