"""The journal of regulated predictions: their events are on the disk before the answer leaves, or there is no answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.columns import Batch, RowError
from services.router import errors
from services.router.events.groups import GroupBuilder
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.journal_file import JournalFiles
from services.router.events.ring import Answered, AnsweredBatch, Notes, Standing
from services.router.events.sender import Message
from services.router.pipelines import Served
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.ticks.counters import Part

# How often a journal that could not be written is tried again.
_AGAIN_S = 1.0
# Name of the stage in errors of rows: so they are nobody's fault whose breaker could open.
STAGE = "journal"


class Codec(Protocol):
    """Writes messages."""

    def encode(self, message: Message) -> bytes: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that waits for the disk. `done`: whether it is there."""

    noted: AnsweredBatch
    done: asyncio.Future[bool]


class Journal:
    """Batches that come while others are being written are written together, with one `fdatasync` (group commit).

    `files` None: there is no journal, and regulated predictions are refused. `clock`: monotonic seconds. `answered`: told of
    what is on the disk; quick, and never raises.
    """

    def __init__(
        self,
        files: JournalFiles | None,
        notes: Notes,
        builder: GroupBuilder,
        codec: Codec,
        metrics: EventMetrics,
        clock: Callable[[], float],
        log: Any,
        answered: Answered | None = None,
    ) -> None:
        self._answered = answered
        self._files = files
        self._notes = notes
        self._builder = builder
        self._codec = codec
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        # When to try again; None: it works.
        self._again: float | None = None
        metrics.works.set(files is not None)

    def refusal(self) -> RowError | None:
        """Why regulated rows need not be computed at all now; None: the journal can be written, as far as is known."""
        if self._files is None:
            return errors.journal_unavailable(STAGE, "this router has none; set `events.journal`")
        if self._again is not None and self._clock() < self._again:
            return errors.journal_unavailable(STAGE, "it can't be written")
        return None

    async def keep(
        self, served: Served, route: Route, part: Part, result: RouteResult, seconds: float
    ) -> RouteResult:
        """The result when its events are on the disk; if they can't be written, all of its rows have an error instead."""
        assert self._files is not None, "the caller has asked for a refusal first"
        # Its number is known when it is written.
        waiting = _Waiting(
            self._notes.make(Standing.of(served), route, part, result, seconds, 0),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(self._files))
        if await waiting.done:
            if self._answered is not None and route.plan.pipeline.explanations is not None:
                self._answered(route, result, waiting.noted)
            return result
        return self.refused(result, errors.journal_unavailable(STAGE, "it can't be written"))

    def refused(self, result: RouteResult, why: RowError) -> RouteResult:
        """The result without its answers."""
        batch, count = result.batch, len(result.batch)
        self._metrics.refused.inc(count)
        failed = Batch(batch.rows, batch.columns, dict.fromkeys(range(count), why), batch.timings)
        return RouteResult(failed, result.fallbacks, result.models, result.columns)

    async def close(self) -> None:
        """Writes what waits, and closes the file."""
        if self._writing is not None:
            await self._writing
        if self._files is not None:
            await asyncio.to_thread(self._files.rotate)

    async def _write_all(self, files: JournalFiles) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting, []
                there = await self._write(files, [w.noted for w in together])
                for waiting in together:
                    if not waiting.done.done():  # else its caller has gone
                        waiting.done.set_result(there)
        finally:
            self._writing = None

    async def _write(self, files: JournalFiles, batches: list[AnsweredBatch]) -> bool:
        for noted in batches:
            noted.epoch, noted.first = self._notes.epoch, self._notes.number(len(noted))
        epoch, numbered = self._notes.epoch, self._notes.noted

        def write() -> None:
            message = Message(epoch, numbered, self._builder.groups(batches), durable=True)
            files.append(epoch, self._codec.encode(message))

        try:
            await asyncio.to_thread(write)
        except Exception as error:  # noqa: BLE001 - whatever it is, these have no answer and the next are tried
            self._failed(error)
            return False
        self._metrics.journaled.inc(sum(map(len, batches)))
        if self._again is not None:
            self._again = None
            self._metrics.works.set(1)
            self._log.info("the journal of regulated predictions is written again")
        return True

    def _failed(self, error: Exception) -> None:
        # The numbers are used up, but no event was lost: what comes next is another stream. And it needs a file of its own.
        self._notes.epoch, self._notes.noted = secrets.randbits(63) + 1, 0
        if self._files is not None:
            self._files.rotate()
        if self._again is None:
            self._metrics.works.set(0)
            told = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            self._log.error("the journal can't be written; regulated predictions are refused", error=told)
        self._again = self._clock() + _AGAIN_S
