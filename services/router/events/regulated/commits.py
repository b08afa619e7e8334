"""Events of regulated predictions: committed before the answer leaves, by the monitoring service, else by the journal of this
machine; or there is no answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.columns import Batch, RowError
from headrace.events import EventGroup
from headrace.hop.errors import Fault
from services.router import errors
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.journal import Journal
from services.router.events.ring import AnsweredBatch, Notes, Standing
from services.router.pipelines import Served
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.ticks.counters import Part

# How long monitoring may take, and how long the journal stands in for it after it failed.
_CALL_S, _AWAY_S = 0.5, 1.0
# Where there is a journal: of the time that is left to the most urgent row, but not less than this.
_SHARE, _LEAST_S = 0.5, 0.05
# How long everything is refused after both failed.
_AGAIN_S = 1.0
# Written on the event loop: they take it for less than a millisecond.
_FEW_ROWS = 16
# Name of the stage in errors of rows: so they are nobody's fault whose breaker could open.
STAGE = "journal"


class Codec(Protocol):
    """Writes and reads messages of events."""

    def write(self, epoch: int, noted: int, groups: Sequence[EventGroup]) -> Any:
        """A message. `noted`: events of the epoch so far."""
        ...

    def encode(self, message: Any) -> bytes: ...

    def decode(self, content: bytes) -> Any:
        """The message in bytes. Raises ValueError."""
        ...


class Committer(Protocol):
    """Takes events for good."""

    async def commit(self, events: Any, deadline: float) -> None:
        """They are stored when it returns. `deadline`: monotonic seconds. Raises Fault."""
        ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that waits to be committed. `done`: whether it is."""

    noted: AnsweredBatch
    done: asyncio.Future[bool]


class Commits:
    """Batches that come while others are being committed are committed together.

    `committer` None: there is no monitoring. `journal` None: there is none, or it takes nothing new. With neither, regulated
    predictions are refused. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        committer: Committer | None,
        journal: Journal | None,
        notes: Notes,
        builder: GroupBuilder,
        codec: Codec,
        metrics: EventMetrics,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._committer = committer
        self._journal = journal
        self._notes = notes
        self._builder = builder
        self._codec = codec
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        # When monitoring is asked again, and when anything is tried again; None: it works.
        self._away: float | None = None
        self._again: float | None = None

    def refusal(self) -> RowError | None:
        """Why regulated rows need not be computed at all now; None: they can be recorded, as far as is known."""
        if self._committer is None and self._journal is None:
            return errors.journal_unavailable(
                STAGE, "this router has neither `monitoring` nor `events.journal`"
            )
        if self._again is not None and self._clock() < self._again:
            return errors.journal_unavailable(STAGE, _NOWHERE)
        return None

    async def commit(
        self, served: Served, route: Route, part: Part, result: RouteResult, seconds: float
    ) -> RouteResult:
        """The result when its events are committed; if they can't be, all of its rows have an error instead."""
        # Its number is known when it is committed.
        waiting = _Waiting(
            self._notes.make(Standing.of(served), route, part, result, len(result.batch), seconds, 0),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        if await waiting.done:
            return result
        return self.refused(result, errors.journal_unavailable(STAGE, _NOWHERE))

    def refused(self, result: RouteResult, why: RowError) -> RouteResult:
        """The result without its answers."""
        batch, count = result.batch, len(result.batch)
        self._metrics.refused.inc(count)
        failed = Batch(batch.rows, batch.columns, dict.fromkeys(range(count), why), batch.timings)
        return RouteResult(failed, result.fallbacks, result.models, result.columns)

    async def close(self) -> None:
        """Commits what waits."""
        if self._committing is not None:
            await self._committing

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                there = await self._commit([w.noted for w in together])
                for waiting in together:
                    if not waiting.done.done():  # else its caller has gone
                        waiting.done.set_result(there)
        finally:
            self._committing = None

    async def _commit(self, batches: Sequence[AnsweredBatch]) -> bool:
        for noted in batches:
            noted.epoch, noted.first = self._notes.epoch, self._notes.number(len(noted))
        epoch, numbered, rows = self._notes.epoch, self._notes.noted, sum(map(len, batches))
        try:
            events = await self._written(epoch, numbered, batches, rows)
            # Under the same numbers: what monitoring has stored, though it did not say so in time, is not stored again.
            if not await self._by_monitoring(events, batches):
                await self._by_journal(epoch, events)
                self._metrics.journaled.inc(rows)
            else:
                self._metrics.sent.inc(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, these have no answer and the next are tried
            self._failed(error)
            return False
        if self._again is not None:
            self._again = None
            self._log.info("regulated predictions are recorded again")
        return True

    async def _written(self, epoch: int, numbered: int, batches: Sequence[AnsweredBatch], rows: int) -> Any:
        def write() -> Any:
            return self._codec.write(epoch, numbered, self._builder.groups(batches))

        # A thread for a few rows takes longer than they do.
        return write() if rows <= _FEW_ROWS else await asyncio.to_thread(write)

    async def _by_monitoring(self, events: Any, batches: Sequence[AnsweredBatch]) -> bool:
        """Whether monitoring has them. Raises Fault if there is nothing but monitoring."""
        committer, now, wait = self._committer, self._clock(), _CALL_S
        if committer is None or (self._journal is not None and self._away is not None and now < self._away):
            return False
        if self._journal is not None:
            left = [d - now for noted in batches for d in noted.rows.deadlines if d > now]
            wait = min(_CALL_S, max(min(left, default=0.0) * _SHARE, _LEAST_S))
        try:
            await committer.commit(events, now + wait)
        except Fault as fault:
            if self._journal is None:
                raise
            if self._away is None:
                self._log.warning(
                    "monitoring does not take regulated predictions; the journal does", error=fault.message
                )
            self._away = self._clock() + _AWAY_S
            return False
        if self._away is not None:
            self._away = None
            self._log.info("monitoring takes regulated predictions again")
        return True

    async def _by_journal(self, epoch: int, events: Any) -> None:
        """Raises OSError."""
        journal = self._journal
        assert journal is not None, "monitoring would have raised"
        await asyncio.to_thread(lambda: journal.append(epoch, self._codec.encode(events)))

    def _failed(self, error: Exception) -> None:
        # The numbers are used up, but no event of an answer was lost: what comes next is another stream.
        self._notes.epoch, self._notes.noted = secrets.randbits(63) + 1, 0
        if self._again is None:
            told = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            self._log.error("regulated predictions can't be recorded; they are refused", error=told)
        self._again = self._clock() + _AGAIN_S


_NOWHERE = "neither monitoring nor the journal of this router can record it"
