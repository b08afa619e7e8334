"""The ring: what was answered and waits to be told. The request path only appends to it; what does not fit is dropped.

Each row has a number, also one that is dropped: so the receiver sees what is missing even if this process is killed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from services.router.events.metrics import EventMetrics
from services.router.events.noted import Noted, Recorded, Standing, chosen_columns, is_regulated, raised
from services.router.events.settings import EventsSettings
from services.router.pipelines import Served
from services.router.routes.observer import Ended
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.ticks.counters import Part

# Routes whose columns are known; each new release has new ones.
_MAX_ROUTES = 256
# A message is not much larger, unless a single batch is.
_MESSAGE_BYTES = 2 << 20
# Told of an answer that is noted, after it was computed, if its pipeline has a rule for explanations.
Answered: TypeAlias = Callable[[Route, RouteResult, Noted], None]


class Notes:
    """Makes a `Noted` of each batch, and numbers its rows. `wall`: seconds since 1970."""

    def __init__(self, max_value_bytes: int, wall: Callable[[], float]) -> None:
        self.epoch = secrets.randbits(63) + 1
        # Rows so far.
        self.noted = 0
        self._max_value_bytes = max_value_bytes
        self._wall = wall
        self._routes: dict[Route, Recorded] = {}

    def number(self, rows: int) -> int:
        """Takes numbers for so many rows; returns the first."""
        first = self.noted + 1
        self.noted += rows
        return first

    def make(
        self, why: Standing, route: Route, part: Part, result: RouteResult, seconds: float, first: int
    ) -> Noted:
        """What is kept of an answer that took `seconds`, whose rows have the numbers from `first` on."""
        recorded = self._routes.get(route)
        if recorded is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            recorded = self._routes[route] = Recorded.of(route, self._max_value_bytes)
        batch = result.batch
        names, values, omitted, size = chosen_columns(
            recorded, result, len(batch.rows.request_ids), self._max_value_bytes
        )
        return Noted(
            recorded,
            why,
            batch.rows,
            tuple(names),
            values,
            omitted,
            batch.errors,
            batch.timings,
            result.fallbacks,
            result.models,
            # Not computed here, but when they are told.
            part.whole.rows if part.positions is not None else batch.rows,
            part.positions,
            None if why.by is None else part.batch.columns.get(why.by),
            self.epoch,
            first,
            int(self._wall() * 1e6),
            int(seconds * 1e6),
            size,
        )


class Ring:
    """An observer of live runs (`routes.observer.RunObserver`): notes those that are not regulated. `clock`: monotonic seconds.

    `full`: set when a message's rows or bytes wait; `came`: set when something waits that was not there before.
    """

    def __init__(
        self,
        settings: EventsSettings,
        notes: Notes,
        metrics: EventMetrics,
        clock: Callable[[], float],
        log: Any,
        answered: Answered | None = None,
    ) -> None:
        """`answered`: told of what was noted; quick, and never raises."""
        self._settings = settings
        self.notes = notes
        self._answered = answered
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._waiting: deque[Noted] = deque()
        self.rows = self.bytes = 0
        self.came = asyncio.Event()
        self.full = asyncio.Event()

    def begin(self, served: Served, route: Route, part: Part) -> Ended:
        """A live run begins; what is returned must be called when it ends. Neither raises."""
        began = self._clock()
        # What is regulated goes into the journal.
        regulated = is_regulated(served, route, part.batch)

        def ended(result: RouteResult | BaseException) -> None:
            # No answer leaves, and nobody waits for one.
            if regulated or isinstance(result, asyncio.CancelledError):
                return
            try:
                known = result if isinstance(result, RouteResult) else raised(route, part.batch, result)
                noted = self.note(Standing.of(served), route, part, known, self._clock() - began)
                explained = route.plan.pipeline.explanations is not None
                if explained and noted is not None and known is result and self._answered is not None:
                    self._answered(route, known, noted)
            except Exception as error:  # noqa: BLE001 - nothing of the events may fail a live call
                self._metrics.dropped("error", len(part.batch))
                self._log.error("a batch was not noted", error=f"{type(error).__name__}: {error}")

        return ended

    def note(
        self, why: Standing, route: Route, part: Part, result: RouteResult, seconds: float
    ) -> Noted | None:
        """Keeps an answer that took `seconds`, or drops and counts it; returns what it keeps."""
        count, settings = len(result.batch.rows.request_ids), self._settings
        first = self.notes.number(count)
        if self.rows + count > settings.max_waiting_rows:
            self._metrics.dropped("full", count)
            return None
        noted = self.notes.make(why, route, part, result, seconds, first)
        if self._waiting and self.bytes + noted.size > settings.max_waiting_bytes:
            self._metrics.dropped("full", count)
            return None
        self._waiting.append(noted)
        self.rows += count
        self.bytes += noted.size
        if len(self._waiting) == 1:
            self.came.set()
        if self._is_full():
            self.full.set()
        return noted

    def take(self, rows: int) -> list[Noted]:
        """Removes the first batches, with about so many rows together, fewer if they are large."""
        taken: list[Noted] = []
        room = _MESSAGE_BYTES
        while self._waiting and rows > 0 and room > 0:
            noted = self._waiting.popleft()
            taken.append(noted)
            rows -= len(noted)
            room -= noted.size
            self.rows -= len(noted)
            self.bytes -= noted.size
        if not self._is_full():
            self.full.clear()
        if not self._waiting:
            self.came.clear()
        return taken

    def _is_full(self) -> bool:
        return self.rows >= self._settings.message_rows or self.bytes >= _MESSAGE_BYTES
