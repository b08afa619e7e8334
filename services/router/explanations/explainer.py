"""Explains predictions: a cheap offer after the answer and one task that works for it, and requests that are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from headrace.columns import Column
from headrace.events import event_ids
from headrace.explanations import ExplanationError
from headrace.hop.errors import Code, Fault
from services.router.events.ring import AnsweredBatch
from services.router.explanations.metrics import ExplanationMetrics
from services.router.explanations.pieces import Explained, Pacing, PieceSize, Row, explain
from services.router.explanations.pixels import explain_pixels
from services.router.explanations.queues import Demanded
from services.router.explanations.reports import Reports
from services.router.explanations.settings import ExplanationSettings
from services.router.explanations.subject import Subject, Subjects
from services.router.explanations.turns import Entry, FairSlot, Turns
from services.router.routes.observer import size_of
from services.router.routes.route import Route
from services.router.routes.run import RouteResult
from services.router.shadow.queue import BatchQueue
from services.router.shadow.run import Turn
from services.router.shadow.shadows import Shadows

# What a loaded callee refuses is tried again after a pause.
_LATER = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_TRIES, _PAUSE_S = 3, 0.5
_LONGEST_REST_S = 0.01
# In whose name the task takes its turns: no tenant's.
_NOBODY = "\0"
# There are live calls if one began within this time; then a piece works for a tenth of the time at most.
_LIVE_S, _REST_BESIDE_LIVE = 1.0, 9.0


def asked_rest(paced_s: float, worked_s: float, since_live_s: float) -> float:
    """Seconds to rest after a piece of an explanation that somebody waits for. `paced_s`: the rest of one that nobody waits for;
    `worked_s`: how long the piece worked; `since_live_s`: since the last live batch began.

    Not long, as there are few of them. But a piece of a picture works so long that it would take most of a processor, then.
    """
    beside = _REST_BESIDE_LIVE * worked_s if since_live_s < _LIVE_S else 0.0
    return min(paced_s, max(_LONGEST_REST_S, beside))


class Explainer:
    """Explains rows in pieces, of which one runs at a time: tenants with requests, and the task for those that nobody waits for,
    take turns. At the pace of `shadows`. `clock`: monotonic seconds."""

    def __init__(
        self,
        settings: ExplanationSettings,
        subjects: Subjects,
        shadows: Shadows,
        reports: Reports,
        metrics: ExplanationMetrics,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._patience_s = settings.patience_s
        self._subjects = subjects
        self._shadows = shadows
        self._reports = reports
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._longest_us = settings.piece_ms * 1000
        # Of its own for each subject: that one is slow does not make the pieces of others small.
        self._sizes: WeakKeyDictionary[Subject, PieceSize] = WeakKeyDictionary()
        self._demanded: BatchQueue[Demanded] = BatchQueue(
            settings.max_waiting_rows, settings.max_waiting_bytes
        )
        self._slot = FairSlot(Turns(settings.max_asked_rows, clock))
        self._came = asyncio.Event()
        self._told: set[tuple[str, str]] = set()

    def offer(self, route: Route, result: RouteResult, noted: AnsweredBatch) -> None:
        """A batch was answered and noted. Quick; never raises."""
        rule = route.plan.pipeline.explanations
        if rule is None or not rule.demanded or not self._reports.wanted:
            return
        try:
            errors, name = result.batch.errors, route.plan.pipeline.name
            rows = [i for i in range(len(result.batch)) if i not in errors]
            size = size_of(result.columns.values())
            self._reports.demanded(name, len(rows))
            if refusal := self._demanded.refusal(len(rows), size):
                self._metrics.predictions(name, refusal, len(rows))
            elif rows:
                self._demanded.put(Demanded(route, result, noted, rows, size))
            self._came.set()
        except Exception as error:  # noqa: BLE001 - nothing of an explanation may fail a live call
            self._log.error("a batch will not be explained", error=f"{type(error).__name__}: {error}")

    def entered(self, tenant: str, rows: int) -> AbstractContextManager[Entry]:
        """Around all work for rows of a tenant for somebody who waits; cancelled when nobody does. Raises Fault."""
        return self._slot.entered(tenant, rows)

    async def ask(self, subject: Subject, rows: Sequence[Row], entry: Entry) -> list[Explained]:
        """Explains rows that have entered. Raises Fault, ExplanationError."""
        found = [await self._explain(subject, row, entry) for row in rows]
        self._metrics.asked.inc(len(found))
        return found

    @asynccontextmanager
    async def turn(self, entry: Entry) -> AsyncIterator[Turn]:
        """Around work that is no piece of an explanation, and takes turns with these."""
        turn = self._turn(entry)
        yield turn
        await self._rest(entry, [], turn)

    async def run(self) -> None:
        """Explains what waits, until cancelled."""
        try:
            while True:
                await self._wait()
                # Behind the answers that are being sent.
                await asyncio.sleep(0)
                if len(self._demanded):
                    await self._explain_batch(self._demanded.pop())
        finally:
            self._discard()

    async def _wait(self) -> None:
        """Returns when there is something to do."""
        self._came.clear()
        if len(self._demanded):
            return
        await self._came.wait()

    async def _explain_batch(self, batch: Demanded) -> None:
        """All predictions of a batch. Raises nothing but CancelledError."""
        left = len(batch)
        name = batch.route.plan.pipeline.name
        self._metrics.waiting.set(self._demanded.rows + left)
        try:
            subject = await self._subjects.of(batch.route)
            for row in rows_of(batch, subject.reads):
                try:
                    with self._slot.entered(_NOBODY, 0) as entry:
                        self._reports.add(await self._explain(subject, row, entry))
                    self._metrics.predictions(name, "explained")
                except (ExplanationError, Fault) as error:
                    self._fails(name, error, 1)
                left -= 1
        except asyncio.CancelledError:
            self._metrics.predictions(name, "stopped", left)
            raise
        except Exception as error:  # noqa: BLE001 - the task must go on with the next batch
            self._fails(name, error, left)
        self._metrics.waiting.set(self._demanded.rows)

    async def _explain(self, subject: Subject, row: Row, entry: Entry) -> Explained:
        size = self._sizes.setdefault(subject, PieceSize(self._longest_us))
        for attempt in range(_TRIES):
            worked: list[float] = []
            turn, rest = partial(self._turn, entry), partial(self._rest, entry, worked)
            pacing = Pacing(turn, rest, size, self._clock)
            try:
                if subject.pixels is not None:
                    explained = await explain_pixels(subject, subject.pixels, row, pacing)
                else:
                    explained = await explain(subject, row, pacing)
            except Fault as fault:
                if fault.code not in _LATER or attempt == _TRIES - 1:
                    raise
                self._slot.release(entry)
                await asyncio.sleep(_PAUSE_S * 2**attempt)
                continue
            finally:
                self._reports.worked(row.tenant, subject.pipeline.name, pacing.took)
            self._metrics.seconds.observe(sum(worked))
            return explained
        raise AssertionError("the last attempt returns or raises")

    def _turn(self, entry: Entry) -> Turn:
        pace = self._shadows.pace
        return Turn(partial(self._gate, entry), pace.stage_began, pace.stage_ended, self._clock)

    async def _gate(self, entry: Entry) -> None:
        await self._slot.acquire(entry)
        await self._shadows.gate(entry.began + self._patience_s)

    async def _rest(self, entry: Entry, worked: list[float], turn: Turn) -> None:
        worked.append(turn.worked)
        now = self._clock()
        rest = self._shadows.pace.rest(now, turn.worked)
        if entry.tenant == _NOBODY:
            # It rests long, and alone.
            self._slot.release(entry)
            await asyncio.sleep(rest)
        else:
            await asyncio.sleep(asked_rest(rest, turn.worked, now - self._shadows.last_live))
            self._slot.release(entry)

    def _fails(self, pipeline: str, error: Exception, rows: int) -> None:
        """Counts it; the log has each cause of a pipeline once, until it works again."""
        cause = error.cause if isinstance(error, ExplanationError) else "failed"
        self._metrics.predictions(pipeline, cause, rows)
        if (pipeline, cause) not in self._told:
            self._told.add((pipeline, cause))
            told = (
                str(error)
                if isinstance(error, (ExplanationError, Fault))
                else f"{type(error).__name__}: {error}"
            )
            self._log.warning("predictions can't be explained", pipeline=pipeline, cause=cause, error=told)

    def _discard(self) -> None:
        while len(self._demanded):
            batch = self._demanded.pop()
            self._metrics.predictions(batch.route.plan.pipeline.name, "stopped", len(batch))


def rows_of(batch: Demanded, reads: Sequence[str]) -> list[Row]:
    """The rows to explain of a batch, with the ids of their predictions as seeds."""
    noted, rows = batch.noted, batch.result.batch.rows
    count = len(batch.result.batch)
    ids = event_ids(
        np.full(count, noted.time_us), np.full(count, noted.epoch), noted.first + np.arange(count)
    ).ragged.to_list()
    there: Mapping[str, Column] = {n: batch.result.columns[n] for n in reads if n in batch.result.columns}
    return [
        Row(
            {name: column.take(np.array([i])) for name, column in there.items()},
            rows.request_ids[i],
            rows.tenants[i],
            ids[i],
        )
        for i in batch.rows
    ]
