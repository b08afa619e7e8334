"""Records answered batches: a cheap offer in the live path, and one task that writes on a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import ANNOTATION, Batch
from headrace.pipeline import Decision
from headrace.recordings import Record, SegmentWriter, encode_record
from services.router.pipelines import Served
from services.router.recording.metrics import RecordingMetrics
from services.router.recording.settings import RecordingSettings
from services.router.routes.observer import Ended, chosen_rows, features_of, size_of
from services.router.routes.route import Route
from services.router.routes.run import FALLBACKS, RouteResult
from services.router.ticks.counters import Part

# Apart from the choice of shadows and rollouts.
_SALT = "recording"
# How often a folder that could not be written is tried again.
_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """A batch that waits to be written. `rows`: positions that are recorded, None: all."""

    route: Route
    batch: Batch
    result: RouteResult
    rows: NDArray[np.intp] | None
    at: datetime
    size: int

    def __len__(self) -> int:
        return len(self.batch) if self.rows is None else len(self.rows)


class Recorder:
    """An observer of live runs (`routes.observer.RunObserver`). `clock`: monotonic seconds; `now`: UTC time; `log`: structlog's.

    While the files can't be written (a full disk, a folder that is gone) nothing is recorded: the log and the gauge say so, the
    answers do not suffer, and every 5 s it is tried again.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        metrics: RecordingMetrics,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        log: Any,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._log = log
        self._writer = SegmentWriter(settings.folder, settings.max_bytes, settings.max_file_bytes, now)
        self.waiting: deque[_Answered] = deque()
        self._bytes = 0
        self._came = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        # When to try again; None: it works.
        self._again: float | None = None
        metrics.works.set(1)

    def begin(self, served: Served, route: Route, part: Part) -> Ended:
        """A live run begins; what is returned must be called when it ends. Neither raises."""

        def ended(result: RouteResult | BaseException) -> None:
            if not isinstance(result, RouteResult):
                return
            try:
                self._offer(served, route, part.batch, result)
            except Exception as error:  # noqa: BLE001 - nothing of the recording may fail a live call
                self._metrics.dropped("error", len(part.batch))
                self._log.error("a batch was not recorded", error=f"{type(error).__name__}: {error}")

        return ended

    async def run(self) -> None:
        """Writes what was offered, until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            await asyncio.sleep(0)  # behind the answers that are being sent
            await self._write_all()

    async def close(self) -> None:
        """Writes what waits, and closes the file. `run` must have ended."""
        if self._writing is not None:
            await self._writing
        if self.waiting:
            await self._write_all()
        self._writer.close()

    def _offer(self, served: Served, route: Route, batch: Batch, result: RouteResult) -> None:
        wanted = self._settings.pipelines
        if wanted and served.pipeline.name not in wanted:
            return
        rows = chosen_rows(batch.rows.request_ids, self._settings.share, _SALT)
        count = len(batch) if rows is None else len(rows)
        if not count:
            return
        if self._again is not None and self._clock() < self._again:
            self._metrics.dropped("disk", count)
            return
        size = size_of(batch.columns.values()) + size_of(result.columns.values())
        if self.waiting and self._bytes + size > self._settings.max_waiting_bytes:
            self._metrics.dropped("full", count)
            return
        self.waiting.append(_Answered(route, batch, result, rows, self._now(), size))
        self._bytes += size
        self._came.set()

    async def _write_all(self) -> None:
        # Not cancelled with `run`: its thread would go on, and `close` must wait for it.
        self._writing = asyncio.ensure_future(self._write_waiting())
        await asyncio.shield(self._writing)

    async def _write_waiting(self) -> None:
        waiting, self.waiting, self._bytes = list(self.waiting), deque(), 0
        rows = sum(map(len, waiting))
        try:
            # Encoding and writing take a thread, so that live batches go on meanwhile.
            await asyncio.to_thread(self._write, waiting)
        except OSError as error:
            self._failed(error, rows)
        except Exception as error:  # noqa: BLE001 - the task must go on with what comes next
            self._metrics.dropped("error", rows)
            self._log.error("batches were not recorded", error=f"{type(error).__name__}: {error}")
        else:
            self._metrics.rows.inc(rows)
            if self._again is not None:
                self._again = None
                self._metrics.works.set(1)
                self._log.info("requests are recorded again", folder=str(self._settings.folder))

    def _write(self, waiting: list[_Answered]) -> None:
        private = self._settings.personal_data == "leave_out"
        self._writer.append(encode_record(record_of(a, leave_out_private=private)) for a in waiting)

    def _failed(self, error: OSError, rows: int) -> None:
        self._metrics.dropped("disk", rows)
        if self._again is None:
            self._metrics.works.set(0)
            folder, told = str(self._settings.folder), error.strerror or type(error).__name__
            self._log.error(
                "requests are not recorded: the folder can't be written", folder=folder, error=told
            )
        self._again = self._clock() + _AGAIN_S


def record_of(answered: _Answered, *, leave_out_private: bool) -> Record:
    """What is written of an answered batch."""
    result, batch = answered.result, answered.batch
    pipeline = answered.route.plan.pipeline
    private = {f.name for f in pipeline.inputs if f.pii} if leave_out_private else set()
    columns = result.batch.columns
    features = features_of(answered.route, result)
    features |= {n: c for n, c in columns.items() if n.startswith(ANNOTATION) and n != FALLBACKS}
    inputs = Batch(batch.rows, {n: c for n, c in batch.columns.items() if n not in private}, batch.errors)
    outputs = {
        n: c
        for n, c in columns.items()
        if n not in private and (n == FALLBACKS or not n.startswith(ANNOTATION))
    }
    answer = Batch(batch.rows, outputs, result.batch.errors)
    if answered.rows is not None:
        inputs, answer = inputs.take(answered.rows), answer.take(answered.rows)
        features = {n: c.take(answered.rows) for n, c in features.items()}
    return Record(
        pipeline.name,
        answered.at,
        inputs,
        features,
        answer,
        Decision(pipeline.version, pipeline.revision, answered.route.name, result.models),
        result.fallbacks,
        sorted(private & batch.columns.keys()),
    )
