"""One model at work: calls in, runs by the scheduler's word, results dealt out again."""

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
from services.executor.execution.bisection import RunOutcome, run_with_bisection
from services.executor.execution.calls import ExecuteResult, PendingCall, ResultDistributor, RunResult
from services.executor.execution.model import Model
from services.executor.execution.tensors import read_inputs, select, stack
from services.executor.failover.group import Member, Recovery
from services.executor.metrics import Metrics
from services.executor.scheduling.run_time import InlinePolicy, Watchdog
from services.executor.scheduling.scheduler import DroppedRows, DropReason, ScheduledRun, Scheduler

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# Gathering costs a call about as much as a run of this length: shorter ones gain nothing from company.
_ALONE_S = 60e-6


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What all runners of a service share. Times are in seconds; `clock`: monotonic."""

    metrics: Metrics
    log: FilteringBoundLogger
    watchdog: Watchdog
    # Runs expected to be shorter stay on the event loop.
    inline: float
    # After which a run is given up, and the same where another backend stands by.
    run_timeout: float
    patience: float
    clock: Callable[[], float] = time.monotonic


class VersionRunner:
    """Runs one version of a model. Made and used on one event loop; only the runs themselves may be on threads."""

    def __init__(self, model: Model, context: RunnerContext) -> None:
        self.model = model
        self._context = context
        self._loop = asyncio.get_running_loop()
        about = model.metadata
        self._tally = context.metrics.tallies.of(about.name, about.version)
        self._answers = ResultDistributor(model, self._tally)
        self._scheduler: Scheduler[PendingCall] = Scheduler(model.limits(), model.group.active.times)
        self._inline = self._placed()
        self._pumping = False
        # Another call came in this turn of the loop: those that come now gather.
        self._crowded = False
        self._timer: asyncio.TimerHandle | None = None
        self._given_up: set[ScheduledRun[PendingCall]] = set()
        self._calls: set[PendingCall] = set()
        self._recovery = Recovery(model.group, self._tried, context.clock)
        model.group.on_switch = self._backend_switched
        self._recovery.start()

    async def execute(self, batch: Batch, received: float) -> ExecuteResult:
        """The outputs of a batch's rows; `received`: when the call came (monotonic seconds).

        Raises Fault INVALID_ARGUMENT for wrong inputs, RESOURCE_EXHAUSTED if every row was shed.
        """
        inputs = read_inputs(self.model.metadata.inputs, batch)
        call = PendingCall(batch, inputs.tensors, inputs.errors, received, 0)
        if not self._run_at_once(call):
            self._offer(call)
        if call.pending:
            await self._settled(call)
        return self._answers.reply(call)

    async def drain(self) -> None:
        """Waits until no call is left. Nobody brings new ones any more."""
        while waiting := [call.done for call in self._calls if call.done is not None]:
            await asyncio.wait(waiting)

    def close(self) -> None:
        """Answers what still waits, and asks what still runs to stop."""
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

    def _run_at_once(self, call: PendingCall) -> bool:
        """Runs a call on the spot if it is alone and its run is short: no queue, no future, no other thread."""
        count = len(call.batch)
        if self._crowded or call.errors or not count or not self._scheduler.idle:
            return False
        expected = self._scheduler.estimate(count)
        if expected > _ALONE_S or not self._inline.allows(expected):
            return False
        now = self._context.clock()
        run = self._scheduler.start_directly(call, count, min(call.batch.rows.deadlines), now)
        if run is None:
            return False
        self._crowded = True
        self._loop.call_soon(self._turn_over)
        call.pending = count
        self._tally.batch_rows.observe(count)
        self._tally.queue_seconds.observe(0.0)
        self._run_here(run, call.tensors)
        return True

    def _turn_over(self) -> None:
        self._crowded = False

    async def _settled(self, call: PendingCall) -> None:
        call.done = self._loop.create_future()
        self._calls.add(call)
        try:
            await call.done
        except asyncio.CancelledError:
            self._scheduler.withdraw(call)
            self._tally.answered("CANCELLED", len(call.batch))
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
            self._pump_soon()

    def _offer_rows(self, call: PendingCall, rows: list[int]) -> None:
        context, now = call.batch.rows, self._context.clock()
        priorities, tenants, deadlines = context.priorities, context.tenants, context.deadlines
        if len(rows) < len(call.batch):
            priorities, tenants = [priorities[r] for r in rows], [tenants[r] for r in rows]
            deadlines = [deadlines[r] for r in rows]
        self._scheduler.offer(call, rows, priorities, tenants, deadlines, now, call.row_bytes)

    def _pump_soon(self) -> None:
        # Not at once: the calls that arrived in the same turn of the loop shall share the run.
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Starts what may start, answers what was dropped, and sees to it that it is called again."""
        self._pumping = False
        while (run := self._scheduler.start(self._context.clock())) is not None:
            inputs = self._assemble(run)
            if self._inline.allows(run.expected):
                self._run_here(run, inputs)
                # The loop belongs to others, too: what still waits goes in its next turn.
                self._pump_soon()
                break
            self._hand_over(run, inputs)
        for drop in self._scheduler.drops():
            drop.call.fail(drop.rows, self._why(drop))
        self._tally.queue_rows = self._scheduler.queued
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._scheduler.wake_at()
        if at is not None and not self._pumping:
            self._timer = self._loop.call_later(max(at - self._context.clock(), 0.0), self._pump_soon)

    def _assemble(self, run: ScheduledRun[PendingCall]) -> Tensors:
        self._tally.batch_rows.observe(run.row_count)
        parts = []
        for part in run.parts:
            self._tally.queue_seconds.observe(run.started - part.arrived)
            # Ascending rows are a view of the call's memory where they are contiguous.
            part.rows.sort()
            parts.append(select(part.call.tensors, part.rows, len(part.call.batch)))
        return stack(parts)

    def _run_here(self, run: ScheduledRun[PendingCall], inputs: Tensors) -> None:
        watchdog = self._context.watchdog
        watchdog.begin(self.model.group.active.backend.interrupt, run.started)
        try:
            ran = self._run(inputs, run.row_count, _deadline(run), watchdog.limit)
        finally:
            watchdog.end()
        if ran.seconds > self._context.watchdog.limit:
            self._inline.forbid()
            if ran.outcome.error is not None:
                # It was ended because it held everybody up. On a thread it may take its time.
                self._log_failure(ran.outcome.error, run, None)
                self._scheduler.finish(run, None)
                self._offer_again(run)
                return
        self._finish(run, ran)
        self._deal(run, ran)

    def _run(self, inputs: Tensors, rows: int, deadline: float, limit: float) -> RunResult:
        """Runs on whatever thread calls it. After `limit` seconds nothing more is tried."""
        began = time.perf_counter()
        group = self.model.group
        outcome, member = self._try(inputs, rows, deadline, began + limit)
        hopeless = outcome.ran is not None and not outcome.ran.any()
        lost = isinstance(outcome.error, BackendLostError | BackendLateError)
        # Not one row came through: are they all bad, or is the engine? If it is, another one runs them.
        if hopeless and not lost and group.replace_if_broken(member):
            outcome, member = self._try(inputs, rows, deadline, began + limit)
        return RunResult(outcome, member, member is not group.members[0], time.perf_counter() - began)

    def _try(self, inputs: Tensors, rows: int, deadline: float, until: float) -> tuple[RunOutcome, Member]:
        member = self.model.group.active

        def run(tensors: Tensors) -> Tensors:
            nonlocal member
            outputs, member = self.model.run(tensors, deadline)
            return outputs

        outcome = run_with_bisection(run, inputs, rows, lambda: time.perf_counter() > until)
        return outcome, member

    def _hand_over(self, run: ScheduledRun[PendingCall], inputs: Tensors) -> None:
        member = self.model.group.active
        deadline = _deadline(run)
        work = partial(self._run, inputs, run.row_count, deadline, self._context.run_timeout)
        handed = _Handed(run, member)
        self._limit(handed)

        def tell(future: Future[RunResult]) -> None:
            # A run that hung may come back when the loop is gone, and nobody cares.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._came_back, handed, future)

        member.pool.submit(work).add_done_callback(tell)

    def _limit(self, handed: _Handed) -> None:
        """Sets the time after which the run is given up."""
        has_standby = self.model.group.has_standby and handed.member is self.model.group.active
        # A backend that knows its deadlines ends by itself when its patience is over: leave it room for that.
        limit = 1.5 * self._context.patience if has_standby else self._context.run_timeout
        handed.timer = self._loop.call_later(limit, self._give_up, handed, limit)

    def _came_back(self, handed: _Handed, future: Future[RunResult]) -> None:
        run = handed.run
        if handed.timer is not None:
            handed.timer.cancel()
        if run in self._given_up:
            self._given_up.discard(run)
            self._scheduler.finish(run, None)
        elif not future.cancelled():
            ran = future.result()
            self._finish(run, ran)
            # The next run begins before the answers go out: each of them wakes a call that has much to do.
            self._pump()
            self._deal(run, ran)
            return
        self._pump_soon()

    def _give_up(self, handed: _Handed, waited: float) -> None:
        """The run takes too long. Its instance stays taken until the engine really returns, or another takes over."""
        group, run = self.model.group, handed.run
        if handed.member is not group.active:
            # The rows moved to another backend on the way: that one has its own time.
            handed.member = group.active
            self._limit(handed)
            return
        self._given_up.add(run)
        self._log_failure(TimeoutError(f"no result after {waited} s"), run, None)
        handed.member.backend.interrupt(self._context.clock() - waited / 2)
        replaced = group.lose(handed.member, f"no result after {waited} s")
        if replaced:
            self._offer_again(run)
            return
        for part in run.parts:
            part.call.fail(part.rows, self._failed())
        self._pump_soon()

    def _offer_again(self, run: ScheduledRun[PendingCall]) -> None:
        for part in run.parts:
            self._offer_rows(part.call, part.rows)
        self._pump_soon()

    def _finish(self, run: ScheduledRun[PendingCall], ran: RunResult) -> None:
        self._scheduler.finish(run, ran.seconds if ran.outcome.error is None else None)
        self._tally.run_seconds.observe(ran.seconds)

    def _deal(self, run: ScheduledRun[PendingCall], ran: RunResult) -> None:
        error, row_error = ran.outcome.error, None
        if error is not None:
            self._log_failure(error, run, ran.outcome.ran)
            row_error = self._failed(error)
            self._recovery.start()
        self._answers.deal(run, ran, row_error)

    def _why(self, drop: DroppedRows[PendingCall]) -> RowError:
        if drop.reason is DropReason.OVERLOADED:
            return errors.overloaded(self.model.metadata.name, drop.retry_after)
        if drop.reason is DropReason.TOO_LATE:
            return errors.too_late(round(self._scheduler.estimate(1) * 1e6))
        return errors.expired()

    def _failed(self, error: Exception | None = None) -> RowError:
        about = self.model.metadata
        if isinstance(error, BackendLateError):
            return errors.no_answer(about.name)
        if isinstance(error, BackendLostError):
            return errors.no_backend(about.name)
        return errors.model_failed(about.name, about.version)

    def _log_failure(self, error: Exception, run: ScheduledRun[PendingCall], ran: Array | None) -> None:
        """`ran`: the rows that came through; None: none did."""
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

    def _backend_switched(self, before: Member, after: Member, why: str) -> None:
        self._loop.call_soon_threadsafe(self._follow, before, after, why)

    def _follow(self, before: Member, after: Member, why: str) -> None:
        """Another backend runs the model from now on."""
        about, metrics = self.model.metadata, self._context.metrics
        left, taken = before.backend.name, after.backend.name
        metrics.failovers.labels(about.name, about.version, left, taken).inc()
        self.show_backends()
        self._context.log.warning(
            "backend changed", model=about.name, version=about.version, before=left, after=taken, why=why
        )
        self._scheduler.switch_engine(self.model.limits(), self.model.group.active.times)
        self._inline = self._placed()
        self._recovery.start()
        self._pump_soon()

    def _tried(self, member: Member, well: bool) -> None:
        about, probes = self.model.metadata, self._context.metrics.probes
        probes.labels(about.name, about.version, member.backend.name, "yes" if well else "no").inc()

    def show_backends(self) -> None:
        """Sets the gauge that tells which backend runs the model."""
        about, group = self.model.metadata, self.model.group
        for member in group.members:
            gauge = self._context.metrics.backend.labels(about.name, about.version, member.backend.name)
            gauge.set(int(member is group.active))

    def _placed(self) -> InlinePolicy:
        # All of them: a standby takes over in the midst of a run, on the thread where that is.
        inline = all(m.backend.capabilities.inline for m in self.model.group.members)
        return InlinePolicy(self._context.inline if inline else 0.0)


@dataclass(slots=True, eq=False)
class _Handed:
    """A run on a thread, and by when it must be back."""

    run: ScheduledRun[PendingCall]
    member: Member
    timer: asyncio.TimerHandle | None = None


def _deadline(run: ScheduledRun[PendingCall]) -> float:
    """When nobody waits any more for the run's rows."""
    if len(run.parts) == 1:
        return max(run.parts[0].call.batch.rows.deadlines)
    return max(max(part.call.batch.rows.deadlines) for part in run.parts)
