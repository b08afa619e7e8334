"""Runs one version of a model: takes calls, makes the runs that the scheduler decides on, distributes their results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from headrace.columns import Batch, RowError
from headrace.hop.process.logs import some
from services.executor import errors
from services.executor.backends.backend import Array, BackendLateError, BackendLostError, Tensors
from services.executor.execution.calls import (
    ExecuteResult,
    PendingCall,
    ResultDistributor,
    RunResult,
    ThreadRun,
    last_deadline,
)
from services.executor.execution.model import (
    FEW_FURTHER_RUNS,
    FurtherRuns,
    Model,
    read_inputs,
    run_with_bisection,
    select_rows,
    stack_rows,
)
from services.executor.failover.group import Member, Recovery
from services.executor.metrics import Metrics
from services.executor.scheduling.run_time import InlinePolicy, Watchdog
from services.executor.scheduling.scheduler import DroppedRows, DropReason, ScheduledRun, Scheduler

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Batching costs a call about as much as a run of this length: shorter runs gain nothing from a larger batch.
_DIRECT_RUN_S = 60e-6


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What all runners of the service share. Times are in seconds; `clock`: monotonic."""

    metrics: Metrics
    log: FilteringBoundLogger
    watchdog: Watchdog
    # Runs with a shorter estimate are made on the event loop.
    inline: float
    # A run is abandoned after `run_timeout`; after `patience` if another backend can take over.
    run_timeout: float
    patience: float
    clock: Callable[[], float] = time.monotonic


class VersionRunner:
    """Runs one version of a model. Lives on one event loop; only the runs themselves may be on threads."""

    def __init__(self, model: Model, context: RunnerContext) -> None:
        self.model = model
        self._context = context
        self._loop = asyncio.get_running_loop()
        about = model.metadata
        self._scheduler = scheduler = Scheduler[PendingCall](model.limits(), model.group.active.times)
        # Not through `self`: metrics outlive the version, and would keep its model in memory.
        self._metrics = context.metrics.of(about.name, about.version, lambda: scheduler.queued)
        self._results = ResultDistributor(model, self._metrics)
        self._inline = self._inline_policy()
        self._further = FurtherRuns()
        self._dispatch_due = False
        # A call was run directly in this turn of the event loop: further calls of this turn are batched.
        self._call_this_turn = False
        self._timer: asyncio.TimerHandle | None = None
        self._given_up: set[ScheduledRun[PendingCall]] = set()
        self._calls: set[PendingCall] = set()
        self._recovery = Recovery(model.group, self._count_probe, context.clock)
        model.group.on_switch = self._on_switch
        self._recovery.start()

    async def execute(self, batch: Batch, received: float) -> ExecuteResult:
        """Runs all rows of a batch. `received`: when the call came (monotonic seconds).

        Errors of single rows are in the result. Raises Fault: INVALID_ARGUMENT for wrong inputs, RESOURCE_EXHAUSTED if
        every row was dropped because the queue is full.
        """
        call = PendingCall(batch, *read_inputs(self.model.metadata.inputs, batch), received, 0)
        if not self._run_directly(call):
            self._offer(call)
        if call.pending:
            await self._wait(call)
        return self._results.reply(call)

    async def drain(self) -> None:
        """Waits until no call is left. The caller sends no new ones."""
        while waiting := [call.done for call in self._calls if call.done is not None]:
            await asyncio.wait(waiting)

    def close(self) -> None:
        """Ends waiting calls with an error, and asks running ones to stop."""
        self._recovery.stop()
        for call in list(self._calls):
            self._scheduler.withdraw(call)
            left = [row for row in range(len(call.batch)) if row not in call.errors]
            call.fail(
                [row for row in left if not any(row in rows for rows, _ in call.outputs)], errors.draining()
            )
        if self._timer is not None:
            self._timer.cancel()
        for member in self.model.group.members:
            member.backend.interrupt(self._context.clock())

    def _run_directly(self, call: PendingCall) -> bool:
        """Runs a call at once if it is the only one and its run is short: no queue, no future, no thread."""
        count = len(call.batch)
        if self._call_this_turn or call.errors or not count or not self._scheduler.idle:
            return False
        expected = self._scheduler.estimate(count)
        if expected > _DIRECT_RUN_S or not self._inline.allows(expected):
            return False
        now = self._context.clock()
        run = self._scheduler.start_directly(call, count, min(call.batch.rows.deadlines), now)
        if run is None:
            return False
        self._call_this_turn = True
        self._loop.call_soon(self._end_turn)
        call.pending = count
        self._metrics.batch_rows.observe(count)
        self._metrics.queue_seconds.observe(0.0)
        self._run_inline(run, call.tensors)
        return True

    def _end_turn(self) -> None:
        self._call_this_turn = False

    async def _wait(self, call: PendingCall) -> None:
        call.done = self._loop.create_future()
        self._calls.add(call)
        try:
            await call.done
        except asyncio.CancelledError:
            self._scheduler.withdraw(call)
            self._metrics.failed("CANCELLED", len(call.batch))
            raise
        finally:
            self._calls.discard(call)

    def _offer(self, call: PendingCall) -> None:
        able = list(range(len(call.batch)))
        if call.errors:
            able = [row for row in able if row not in call.errors]
        call.pending = len(able)
        self._offer_rows(call, able)
        if able:
            self._dispatch_soon()

    def _offer_rows(self, call: PendingCall, rows: list[int]) -> None:
        about, now = call.batch.rows, self._context.clock()
        priorities, tenants, deadlines = about.priorities, about.tenants, about.deadlines
        if len(rows) < len(call.batch):
            priorities, tenants = [priorities[r] for r in rows], [tenants[r] for r in rows]
            deadlines = [deadlines[r] for r in rows]
        self._scheduler.offer(call, rows, priorities, tenants, deadlines, now, call.row_bytes)

    def _dispatch_soon(self) -> None:
        # Not at once: calls that arrive in the same turn of the event loop are to share the run.
        if not self._dispatch_due:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Starts the runs that may start, answers dropped rows, and arranges its next call."""
        self._dispatch_due = False
        while (run := self._scheduler.start(self._context.clock())) is not None:
            inputs = self._batch_inputs(run)
            if self._inline.allows(run.expected):
                self._run_inline(run, inputs)
                # Other tasks need the loop, too: the rows that still wait run in its next turn.
                if self._scheduler.queued:
                    self._dispatch_soon()
                break
            self._run_on_thread(run, inputs)
        for drop in self._scheduler.drops():
            drop.call.fail(drop.rows, self._drop_error(drop))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._scheduler.wake_at()
        if at is not None and not self._dispatch_due:
            self._timer = self._loop.call_later(max(at - self._context.clock(), 0.0), self._dispatch_soon)

    def _batch_inputs(self, run: ScheduledRun[PendingCall]) -> Tensors:
        self._metrics.batch_rows.observe(run.row_count)
        parts = []
        for part in run.parts:
            self._metrics.queue_seconds.observe(run.started - part.arrived)
            # Ascending and contiguous rows are a view of the call's memory, not a copy.
            part.rows.sort()
            parts.append(select_rows(part.call.tensors, part.rows, len(part.call.batch)))
        return stack_rows(parts)

    def _run_inline(self, run: ScheduledRun[PendingCall], inputs: Tensors) -> None:
        watchdog = self._context.watchdog
        watchdog.begin(self.model.group.active.backend.interrupt, run.started)
        try:
            result = self._run(inputs, run.row_count, last_deadline(run), watchdog.limit, FEW_FURTHER_RUNS)
        finally:
            watchdog.end()
        if result.seconds > watchdog.limit:
            self._inline.forbid()
            if result.outcome.error is not None:
                # The watchdog ended it because it blocked the loop. On a thread it may take longer.
                self._log_failure(result.outcome.error, run, None)
                self._scheduler.finish(run, None)
                self._requeue(run)
                return
        if result.outcome.undecided and not self._further.hopeless:
            # To find all bad rows takes longer than others may wait for the event loop.
            self._run_on_thread(run, inputs)
            return
        self._finish(run, result)
        self._distribute(run, result)

    def _run(self, inputs: Tensors, rows: int, deadline: float, limit: float, most: int) -> RunResult:
        """Makes a run on the calling thread. If it fails, at most `most` further ones, and none after `limit` seconds."""
        began = time.perf_counter()
        group = self.model.group
        member = group.active

        def run(tensors: Tensors) -> Tensors:
            nonlocal member
            outputs, member = self.model.run(tensors, deadline)
            return outputs

        def over() -> bool:
            # When all deadlines have passed, nobody waits for what would be found.
            return time.perf_counter() > began + limit or self._context.clock() > deadline

        outcome = run_with_bisection(run, inputs, rows, most, over)
        if outcome.ran is not None and not outcome.ran.any():
            lost = isinstance(outcome.error, BackendLostError | BackendLateError)
            # Every row failed: are all of them bad, or is the engine broken? If it is, another backend runs them.
            if not lost and group.replace_if_broken(member):
                outcome = run_with_bisection(run, inputs, rows, most, over)
        return RunResult(outcome, member, member is not group.members[0], time.perf_counter() - began)

    def _run_on_thread(self, run: ScheduledRun[PendingCall], inputs: Tensors) -> None:
        member = self.model.group.active
        context, rows = self._context, run.row_count
        # Further runs end well before a run counts as hung: its backend would be taken for a lost one.
        limit = (context.patience if self.model.group.has_standby else context.run_timeout) / 2
        work = partial(self._run, inputs, rows, last_deadline(run), limit, self._further.allowed(rows))
        thread_run = ThreadRun(run, member)
        self._set_timeout(thread_run)

        def done(future: Future[RunResult]) -> None:
            # A run that hung may end when the loop is already closed; nobody waits for it then.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._thread_run_ended, thread_run, future)

        member.pool.submit(work).add_done_callback(done)

    def _set_timeout(self, thread_run: ThreadRun) -> None:
        """Sets the time after which the run is abandoned."""
        group = self.model.group
        has_standby = group.has_standby and thread_run.member is group.active
        # A backend that respects deadlines ends the run after `patience` by itself: leave it time for that.
        limit = 1.5 * self._context.patience if has_standby else self._context.run_timeout
        thread_run.timer = self._loop.call_later(limit, self._give_up, thread_run, limit)

    def _thread_run_ended(self, thread_run: ThreadRun, future: Future[RunResult]) -> None:
        run = thread_run.run
        if thread_run.timer is not None:
            thread_run.timer.cancel()
        if run in self._given_up:
            self._given_up.discard(run)
            self._scheduler.finish(run, None)
        elif not future.cancelled():
            result = future.result()
            self._finish(run, result)
            # The next run starts before results are distributed: each result wakes a call, which takes time.
            self._dispatch()
            self._distribute(run, result)
            return
        self._dispatch_soon()

    def _give_up(self, thread_run: ThreadRun, waited: float) -> None:
        """Abandons a run that takes too long. Its instance stays busy until the engine returns or is replaced."""
        group, run = self.model.group, thread_run.run
        if thread_run.member is not group.active:
            # Another backend has taken the rows meanwhile: it gets the full time.
            thread_run.member = group.active
            self._set_timeout(thread_run)
            return
        self._given_up.add(run)
        self._log_failure(TimeoutError(f"no result after {waited} s"), run, None)
        thread_run.member.backend.interrupt(self._context.clock() - waited / 2)
        replaced = group.mark_lost(thread_run.member, f"no result after {waited} s")
        if replaced:
            self._requeue(run)
            return
        for part in run.parts:
            part.call.fail(part.rows, self._failure())
        self._dispatch_soon()

    def _requeue(self, run: ScheduledRun[PendingCall]) -> None:
        for part in run.parts:
            self._offer_rows(part.call, part.rows)
        self._dispatch_soon()

    def _finish(self, run: ScheduledRun[PendingCall], result: RunResult) -> None:
        self._scheduler.finish(run, result.seconds if result.outcome.error is None else None)
        self._further.learn(run.row_count, result.outcome.ran)
        self._metrics.run_seconds.observe(result.seconds)

    def _distribute(self, run: ScheduledRun[PendingCall], result: RunResult) -> None:
        error, row_error = result.outcome.error, None
        if error is not None:
            self._log_failure(error, run, result.outcome.ran)
            row_error = self._failure(error)
            self._recovery.start()
        self._results.distribute(run, result, row_error)

    def _drop_error(self, drop: DroppedRows[PendingCall]) -> RowError:
        if drop.reason is DropReason.OVERLOADED:
            return errors.overloaded(self.model.metadata.name, drop.retry_after)
        if drop.reason is DropReason.TOO_LATE:
            return errors.too_late(round(self._scheduler.estimate(1) * 1e6))
        return errors.expired()

    def _failure(self, error: Exception | None = None) -> RowError:
        about = self.model.metadata
        if isinstance(error, BackendLateError):
            return errors.no_answer(about.name)
        if isinstance(error, BackendLostError):
            return errors.no_backend(about.name)
        return errors.model_failed(about.name, about.version)

    def _log_failure(self, error: Exception, run: ScheduledRun[PendingCall], ran: Array | None) -> None:
        """`ran`: which rows succeeded (bool (rows,)); None: none did."""
        about = self.model.metadata
        ids = [part.call.batch.rows.request_ids[row] for part in run.parts for row in part.rows]
        failed = ids if ran is None else [i for i, well in zip(ids, ran.tolist(), strict=True) if not well]
        self._context.log.error(
            "run failed",
            model=about.name,
            version=about.version,
            rows=len(failed),
            request_ids=some(failed),
            exc_info=error,
        )

    def _on_switch(self, before: Member, after: Member, why: str) -> None:
        self._loop.call_soon_threadsafe(self._after_switch, before, after, why)

    def _after_switch(self, before: Member, after: Member, why: str) -> None:
        """Adapts to another backend, which runs the model from now on."""
        about, metrics = self.model.metadata, self._context.metrics
        left, taken = before.backend.name, after.backend.name
        metrics.failovers.labels(about.name, about.version, left, taken).inc()
        self.show_backends()
        self._context.log.warning(
            "backend changed", model=about.name, version=about.version, before=left, after=taken, why=why
        )
        self._scheduler.switch_engine(self.model.limits(), self.model.group.active.times)
        self._inline = self._inline_policy()
        self._recovery.start()
        self._dispatch_soon()

    def _count_probe(self, member: Member, well: bool) -> None:
        about, probes = self.model.metadata, self._context.metrics.probes
        probes.labels(about.name, about.version, member.backend.name, "yes" if well else "no").inc()

    def show_backends(self) -> None:
        """Sets the metric that says which backend runs the model."""
        about, group = self.model.metadata, self.model.group
        for member in group.members:
            gauge = self._context.metrics.backend.labels(about.name, about.version, member.backend.name)
            gauge.set(int(member is group.active))

    def _inline_policy(self) -> InlinePolicy:
        # All members must allow it: a standby takes over during a run, on the thread of that run.
        inline = all(m.backend.capabilities.inline for m in self.model.group.members)
        return InlinePolicy(self._context.inline if inline else 0.0)
