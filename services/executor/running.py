"""One model at work: calls in, runs by the scheduler's word, results dealt out again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass, field
from functools import partial

import structlog

from headrace.columns import Batch, RowError, Timing
from headrace.hop.errors import Code, Fault, Reason
from services.executor import assembling, errors
from services.executor.backends.backend import Tensors
from services.executor.isolating import Outcome, run_isolating
from services.executor.loading import Model
from services.executor.metrics import Metrics
from services.executor.placing import Placement
from services.executor.scheduler import Drop, Limits, Run, Scheduler, Why

_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all runners of a service share. `clock`: monotonic seconds."""

    pool: ThreadPool
    metrics: Metrics
    log: structlog.typing.FilteringBoundLogger
    # Seconds: runs expected to be shorter stay on the event loop.
    inline: float
    # Seconds after which a run is given up.
    run_timeout: float
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True, eq=False)
class _Waiting:
    """One call, until each of its rows has run or failed."""

    batch: Batch
    tensors: Tensors
    errors: dict[int, RowError]
    received: float
    pending: int
    done: asyncio.Future[None]
    parts: list[assembling.Part] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    def settle(self, rows: int) -> None:
        """That many rows more have their result or error."""
        self.pending -= rows
        if not self.pending and not self.done.done():
            self.done.set_result(None)

    def fail(self, rows: list[int], error: RowError) -> None:
        self.errors.update(dict.fromkeys(rows, error))
        self.settle(len(rows))


class Runner:
    """Runs one version of a model. Lives on one event loop; only the runs themselves may be on threads."""

    def __init__(self, model: Model, around: Surroundings) -> None:
        self.model = model
        self._around = around
        limits = Limits(
            max_rows=model.max_rows,
            max_queue_rows=model.settings.max_queue_rows,
            instances=model.instances,
            max_delay=model.settings.max_delay_us / _MICRO,
        )
        self._scheduler: Scheduler[_Waiting] = Scheduler(limits, model.times)
        self._placement = Placement(around.inline)
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._given_up: set[Run[_Waiting]] = set()
        self._calls: set[_Waiting] = set()
        self._attributes = {"model.version": model.metadata.version, "backend": model.backend.name}
        name, metrics = model.metadata.name, around.metrics
        self._queue_rows = metrics.queue_rows.labels(name)
        self._queue_shown = 0
        self._queue_seconds = metrics.queue_seconds.labels(name)
        self._run_seconds = metrics.run_seconds.labels(name)
        self._batch_rows = metrics.batch_rows.labels(name)

    async def execute(self, batch: Batch, received: float) -> Batch:
        """The outputs of a batch's rows; `received`: when the call came (monotonic seconds).

        Raises Fault INVALID_ARGUMENT for wrong inputs, RESOURCE_EXHAUSTED if every row was shed.
        """
        inputs = assembling.read_inputs(self.model.metadata.inputs, batch)
        call = _Waiting(
            batch, inputs.tensors, inputs.errors, received, 0, asyncio.get_running_loop().create_future()
        )
        self._offer(call)
        if call.pending:
            self._calls.add(call)
            try:
                await call.done
            except asyncio.CancelledError:
                self._scheduler.withdraw(call)
                self._count(Counter(CANCELLED=len(batch)))
                raise
            finally:
                self._calls.discard(call)
        return self._reply(call)

    def close(self) -> None:
        """Answers what still waits, and asks what still runs to stop."""
        for call in list(self._calls):
            self._scheduler.withdraw(call)
            left = [row for row in range(len(call.batch)) if row not in call.errors]
            call.fail(
                [row for row in left if not any(row in rows for rows, _ in call.parts)], errors.draining()
            )
        if self._timer is not None:
            self._timer.cancel()
        self.model.backend.interrupt(self._around.clock())

    def _offer(self, call: _Waiting) -> None:
        rows, context = range(len(call.batch)), call.batch.rows
        priorities, deadlines = context.priorities, context.deadlines
        if call.errors:
            able = [row for row in rows if row not in call.errors]
            priorities, deadlines = [priorities[r] for r in able], [deadlines[r] for r in able]
        else:
            able = list(rows)
        call.pending = len(able)
        self._scheduler.offer(call, able, priorities, deadlines, self._around.clock())
        self._pump_soon()

    def _pump_soon(self) -> None:
        # Not at once: the calls that arrived in the same turn of the loop shall share the run.
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Starts what may start, answers what was dropped, and sees to it that it is called again."""
        self._pumping = False
        while (run := self._scheduler.start(self._around.clock())) is not None:
            inputs = self._assemble(run)
            if self._placement.inline(run.expected):
                self._end(run, *self._run(inputs, run.row_count))
                # The loop belongs to others, too: what still waits goes in its next turn.
                self._pump_soon()
                break
            self._hand_over(run, inputs)
        for drop in self._scheduler.drops():
            drop.call.fail(drop.rows, self._why(drop))
        self._queue_rows.inc(self._scheduler.queued - self._queue_shown)
        self._queue_shown = self._scheduler.queued
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._scheduler.wake_at()
        if at is not None and not self._pumping:
            delay = max(at - self._around.clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._pump_soon)

    def _assemble(self, run: Run[_Waiting]) -> Tensors:
        self._batch_rows.observe(run.row_count)
        parts = []
        for piece in run.pieces:
            self._queue_seconds.observe(run.started - piece.arrived)
            # Ascending rows are a view of the call's memory where they are contiguous.
            piece.rows.sort()
            parts.append(assembling.select(piece.call.tensors, piece.rows, len(piece.call.batch)))
        return assembling.stack(parts)

    def _run(self, inputs: Tensors, rows: int) -> tuple[Outcome, float]:
        """Runs on whatever thread calls it."""
        began = time.perf_counter()
        outcome = run_isolating(self.model.run, inputs, rows)
        return outcome, time.perf_counter() - began

    def _hand_over(self, run: Run[_Waiting], inputs: Tensors) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._around.pool, self._run, inputs, run.row_count)
        timer = loop.call_later(self._around.run_timeout, self._give_up, run)
        future.add_done_callback(partial(self._came_back, run, timer))

    def _came_back(
        self, run: Run[_Waiting], timer: asyncio.TimerHandle, future: asyncio.Future[tuple[Outcome, float]]
    ) -> None:
        timer.cancel()
        if run in self._given_up:
            self._given_up.discard(run)
            self._scheduler.finish(run, None)
        elif not future.cancelled():
            self._end(run, *future.result())
        self._pump_soon()

    def _give_up(self, run: Run[_Waiting]) -> None:
        """The run takes too long. Its instance stays taken until the engine really returns."""
        self._given_up.add(run)
        self._log_failure(TimeoutError(f"no result after {self._around.run_timeout} s"), run.row_count)
        self.model.backend.interrupt(self._around.clock() - self._around.run_timeout / 2)
        for piece in run.pieces:
            piece.call.fail(piece.rows, self._failed())

    def _end(self, run: Run[_Waiting], outcome: Outcome, seconds: float) -> None:
        self._scheduler.finish(run, seconds if outcome.error is None else None)
        self._run_seconds.observe(seconds)
        if outcome.error is not None:
            self._log_failure(outcome.error, run.row_count)
        start, taken = 0, 0
        for piece in run.pieces:
            stop = start + len(piece.rows)
            ran = (
                piece.rows
                if outcome.ran is None
                else [row for row, ok in zip(piece.rows, outcome.ran[start:stop].tolist(), strict=True) if ok]
            )
            if ran:
                own = {name: array[taken : taken + len(ran)] for name, array in outcome.outputs.items()}
                piece.call.parts.append((ran, own))
                taken += len(ran)
            self._note_times(piece.call, run, seconds)
            if len(ran) < len(piece.rows):
                kept = set(ran)
                piece.call.fail([row for row in piece.rows if row not in kept], self._failed())
            piece.call.settle(len(ran))
            start = stop

    def _note_times(self, call: _Waiting, run: Run[_Waiting], seconds: float) -> None:
        waited = round((run.started - call.received) * _MICRO)
        call.timings += [
            Timing("queue", errors.STAGE, 0, waited, run.row_count, self._attributes),
            Timing("run", errors.STAGE, waited, round(seconds * _MICRO), run.row_count, self._attributes),
        ]

    def _reply(self, call: _Waiting) -> Batch:
        count = len(call.batch)
        codes = Counter(error.code.name for error in call.errors.values())
        codes["OK"] = count - len(call.errors)
        self._count(codes)
        if (
            count
            and all(e.reason == Reason.REASON_OVERLOADED for e in call.errors.values())
            and not codes["OK"]
        ):
            raise _as_call_fault(call.errors[0])
        columns = assembling.output_columns(self.model.metadata.outputs, call.parts, count)
        return Batch(call.batch.rows, {c.name: c for c in columns}, call.errors, call.timings)

    def _count(self, codes: Counter[str]) -> None:
        for code, rows in codes.items():
            if rows:
                self._around.metrics.rows.labels(self.model.metadata.name, code).inc(rows)

    def _why(self, drop: Drop[_Waiting]) -> RowError:
        if drop.why is Why.OVERLOADED:
            return errors.overloaded(self.model.metadata.name, drop.retry_after)
        if drop.why is Why.TOO_LATE:
            return errors.too_late(round(self.model.times.estimate(1) * _MICRO))
        return errors.expired()

    def _failed(self) -> RowError:
        return errors.model_failed(self.model.metadata.name, self.model.metadata.version)

    def _log_failure(self, error: Exception, rows: int) -> None:
        about = self.model.metadata
        self._around.log.error(
            "run failed", model=about.name, version=about.version, rows=rows, exc_info=error
        )


def _as_call_fault(error: RowError) -> Fault:
    """Every row was shed: the call as a whole is refused, with the hint where hop's client looks for it."""
    wait = int(error.metadata["retry_after_ms"]) / 1000
    return Fault(
        Code.RESOURCE_EXHAUSTED, error.reason, error.message, metadata=error.metadata, retry_after_s=wait
    )
