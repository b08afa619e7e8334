"""What waits to be explained: predictions whose documents demand it, and rows that somebody asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.hop.limiters import EXPLANATIONS
from services.router.events.noted import Noted
from services.router.explanations.pieces import Explained, Row
from services.router.explanations.subject import Subject
from services.router.routes.route import Route
from services.router.routes.run import RouteResult

_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Demanded:
    """A batch that was answered. `noted`: names its predictions; `rows`: positions of those with an answer; `size`: bytes that
    it keeps in memory."""

    route: Route
    result: RouteResult
    noted: Noted
    rows: Sequence[int]
    size: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Rows that somebody waits for."""

    subject: Subject
    rows: Sequence[Row]
    done: asyncio.Future[list[Explained]]

    def __len__(self) -> int:
        return len(self.rows)


class AskedQueue:
    """First in, first out; bounded by rows."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._waiting: deque[Asked] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, asked: Asked) -> None:
        """Raises Fault RESOURCE_EXHAUSTED OVERLOADED."""
        if sum(map(len, self._waiting)) + len(asked) > self._max_rows:
            raise EXPLANATIONS.refusal(
                f"{self._max_rows} rows wait to be explained here; ask again later",
                retry_after_s=_RETRY_AFTER_S,
                limit=str(self._max_rows),
            )
        self._waiting.append(asked)

    def take(self) -> Asked | None:
        """Removes the first that somebody still waits for; None: there is none."""
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done.done():
                return asked
        return None
