"""Calls from their arrival to their reply: what is known of each, and how results of runs are distributed to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from headrace.columns import Batch, RowError, Timing
from headrace.hop.errors import Code, Fault, Reason
from services.executor import errors
from services.executor.backends.backend import Tensors
from services.executor.execution.model import Model, PartialOutput, RunOutcome, output_columns
from services.executor.failover.group import Member
from services.executor.metrics import VersionMetrics
from services.executor.scheduling.scheduler import ScheduledRun

_MICRO = 1e6


# Not frozen: a frozen dataclass takes three times as long to make, and one is made per call.
@dataclass(slots=True, eq=False)
class PendingCall:
    """A call that is not answered yet.

    `received`: monotonic seconds. `pending`: number of rows without a result or an error. `backend`: the one that ran
    rows of it last.
    """

    batch: Batch
    tensors: Tensors
    errors: dict[int, RowError]
    received: float
    pending: int
    # None while the call is run directly: nobody waits for it.
    done: asyncio.Future[None] | None = None
    backend: str = ""
    standby: bool = False
    outputs: list[PartialOutput] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    def settle(self, rows: int) -> None:
        """Counts rows that got their result or error; wakes the call after the last one."""
        self.pending -= rows
        if not self.pending and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def fail(self, rows: list[int], error: RowError) -> None:
        """Gives `rows` (positions) an error."""
        self.errors.update(dict.fromkeys(rows, error))
        self.settle(len(rows))

    @property
    def row_bytes(self) -> int:
        """Bytes of inputs per row, on average. For texts only their pointers are counted."""
        return sum([array.nbytes for array in self.tensors.values()]) // max(len(self.batch), 1)


# Not frozen, for the same reason; it is never changed.
@dataclass(slots=True, eq=False)
class ExecuteResult:
    """The result of a call. `cold_start`: the model was asleep and had to be activated first."""

    batch: Batch
    version: str
    sha256: str
    backend: str
    standby: bool
    cold_start: bool = False


@dataclass(slots=True, eq=False)
class RunResult:
    """The result of one run. `standby`: `member` is not the first choice. `seconds`: how long it took."""

    outcome: RunOutcome
    member: Member
    standby: bool
    seconds: float


@dataclass(slots=True, eq=False)
class ThreadRun:
    """A run on a thread. `timer` abandons it when it takes too long."""

    run: ScheduledRun[PendingCall]
    member: Member
    timer: asyncio.TimerHandle | None = None


class ResultDistributor:
    """Distributes the results of one model's runs to its calls, and makes the replies."""

    def __init__(self, model: Model, metrics: VersionMetrics) -> None:
        self._model = model
        self._metrics = metrics
        self._attributes = {
            member.backend.name: {"model.version": model.metadata.version, "backend": member.backend.name}
            for member in model.group.members
        }

    def distribute(self, run: ScheduledRun[PendingCall], result: RunResult, error: RowError | None) -> None:
        """Gives each call the outputs of its rows. `error`: for the rows that failed."""
        outcome, name = result.outcome, result.member.backend.name
        attributes, took = self._attributes[name], round(result.seconds * _MICRO)
        start, taken = 0, 0
        for part in run.parts:
            call, rows = part.call, part.rows
            stop = start + len(rows)
            # Some rows of a call may have run before a failover: then the standby is the one to report.
            if result.standby or not call.standby:
                call.backend, call.standby = name, result.standby
            waited, row_count = max(round((run.started - call.received) * _MICRO), 0), run.row_count
            call.timings.append(Timing("queue", errors.STAGE, 0, waited, row_count, attributes))
            call.timings.append(Timing("run", errors.STAGE, waited, took, row_count, attributes))
            if outcome.ran is not None:
                rows = [row for row, ok in zip(rows, outcome.ran[start:stop].tolist(), strict=True) if ok]
            if rows:
                own = outcome.outputs
                if len(run.parts) > 1 or outcome.ran is not None:
                    own = {n: array[taken : taken + len(rows)] for n, array in own.items()}
                call.outputs.append((rows, own))
                taken += len(rows)
            if error is not None and len(rows) < len(part.rows):
                kept = set(rows)
                call.fail([row for row in part.rows if row not in kept], error)
            call.settle(len(rows))
            start = stop

    def reply(self, call: PendingCall) -> ExecuteResult:
        """The reply to a call without pending rows. Raises Fault if every row was dropped because the queue is full."""
        count, found = len(call.batch), call.errors
        if not found:
            self._metrics.answered.inc(count)
        else:
            self._count_errors(call)
        about = self._model.metadata
        columns = output_columns(about.outputs, call.outputs, count)
        batch = Batch(call.batch.rows, columns, found, call.timings)
        backend = call.backend or self._model.group.active.backend.name
        return ExecuteResult(batch, about.version, about.sha256, backend, call.standby)

    def _count_errors(self, call: PendingCall) -> None:
        for code, rows in Counter(error.code.name for error in call.errors.values()).items():
            self._metrics.failed(code, rows)
        answered = len(call.batch) - len(call.errors)
        self._metrics.answered.inc(answered)
        if not answered and all(e.reason == Reason.REASON_OVERLOADED for e in call.errors.values()):
            raise _as_call_fault(call.errors[0])


def _as_call_fault(error: RowError) -> Fault:
    """Refuses the call as a whole. The hint when to retry is where hop's client looks for it."""
    wait = int(error.metadata["retry_after_ms"]) / 1000
    return Fault(
        Code.RESOURCE_EXHAUSTED, error.reason, error.message, metadata=error.metadata, retry_after_s=wait
    )


def last_deadline(run: ScheduledRun[PendingCall]) -> float:
    """The latest deadline of the run's rows: after it nobody waits for them."""
    if len(run.parts) == 1:
        return max(run.parts[0].call.batch.rows.deadlines)
    return max(max(part.call.batch.rows.deadlines) for part in run.parts)
