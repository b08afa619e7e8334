"""Results of runs, dealt out to the calls whose rows were in them; and a call's reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from headrace.columns import Batch, RowError, Timing
from headrace.hop.errors import Code, Fault, Reason
from services.executor import errors
from services.executor.backends.backend import Tensors
from services.executor.execution.bisection import RunOutcome
from services.executor.execution.model import Model
from services.executor.execution.tensors import PartialOutput, output_columns
from services.executor.failover.group import Member
from services.executor.metrics import Tally
from services.executor.scheduling.scheduler import ScheduledRun

_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run brought, who ran it, whether as a standby, and how long it took."""

    outcome: RunOutcome
    member: Member
    standby: bool
    seconds: float


class ResultDistributor:
    """Answers the calls of one model."""

    def __init__(self, model: Model, tally: Tally) -> None:
        self._model = model
        self._tally = tally
        self._attributes = {
            member.backend.name: {"model.version": model.metadata.version, "backend": member.backend.name}
            for member in model.group.members
        }

    def deal(self, run: ScheduledRun[PendingCall], ran: RunResult, error: RowError | None) -> None:
        """Gives each call its rows' outputs; `error`: what the rows get that did not run."""
        outcome, name = ran.outcome, ran.member.backend.name
        start, taken = 0, 0
        for part in run.parts:
            call, rows = part.call, part.rows
            stop = start + len(rows)
            # Rows of one call may have run before and after a failover.
            if ran.standby or not call.standby:
                call.backend, call.standby = name, ran.standby
            self._note_times(call, run, ran)
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
        """The answer to a call that is settled. Raises Fault if every row was shed."""
        count, found = len(call.batch), call.errors
        if not found:
            if count:
                self._tally.answered("OK", count)
        else:
            self._count(call)
        about = self._model.metadata
        columns = output_columns(about.outputs, call.outputs, count)
        batch = Batch(call.batch.rows, {c.name: c for c in columns}, found, call.timings)
        backend = call.backend or self._model.group.active.backend.name
        return ExecuteResult(batch, about.version, about.sha256, backend, call.standby)

    def _count(self, call: PendingCall) -> None:
        codes = Counter(error.code.name for error in call.errors.values())
        codes["OK"] = len(call.batch) - len(call.errors)
        for code, rows in codes.items():
            if rows:
                self._tally.answered(code, rows)
        if not codes["OK"] and all(e.reason == Reason.REASON_OVERLOADED for e in call.errors.values()):
            raise _as_call_fault(call.errors[0])

    def _note_times(self, call: PendingCall, run: ScheduledRun[PendingCall], ran: RunResult) -> None:
        waited = max(round((run.started - call.received) * _MICRO), 0)
        took, rows = round(ran.seconds * _MICRO), run.row_count
        attributes = self._attributes[ran.member.backend.name]
        call.timings.append(Timing("queue", errors.STAGE, 0, waited, rows, attributes))
        call.timings.append(Timing("run", errors.STAGE, waited, took, rows, attributes))


def _as_call_fault(error: RowError) -> Fault:
    """Every row was shed: the call as a whole is refused, with the hint where hop's client looks for it."""
    wait = int(error.metadata["retry_after_ms"]) / 1000
    return Fault(
        Code.RESOURCE_EXHAUSTED, error.reason, error.message, metadata=error.metadata, retry_after_s=wait
    )


# Not frozen: a frozen dataclass takes three times as long to make, and one is made per call.
@dataclass(slots=True, eq=False)
class PendingCall:
    """One call. `pending`: rows that have neither run nor failed; `backend`: who ran the last of those that did."""

    batch: Batch
    tensors: Tensors
    errors: dict[int, RowError]
    received: float
    pending: int
    # None while the call is served at once, on the spot.
    done: asyncio.Future[None] | None = None
    backend: str = ""
    standby: bool = False
    outputs: list[PartialOutput] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    def settle(self, rows: int) -> None:
        """That many rows more have their result or error."""
        self.pending -= rows
        if not self.pending and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def fail(self, rows: list[int], error: RowError) -> None:
        self.errors.update(dict.fromkeys(rows, error))
        self.settle(len(rows))

    @property
    def row_bytes(self) -> int:
        """Bytes of inputs per row, on average; texts count as what points to them."""
        return sum(array.nbytes for array in self.tensors.values()) // max(len(self.batch), 1)


# Not frozen either; nobody changes one after it is made.
@dataclass(slots=True, eq=False)
class ExecuteResult:
    """A call's answer. `cold_start`: it waited until the model was made ready."""

    batch: Batch
    version: str
    sha256: str
    backend: str
    standby: bool
    cold_start: bool = False
