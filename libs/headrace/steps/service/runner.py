"""What a service does with a batch: find the program, run it on the event loop or in a thread, count and log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.columns import Batch, Timing
from headrace.hop.errors import Reason
from headrace.hop.process.logs import some
from headrace.steps.program.batch_run import run_batch
from headrace.steps.program.program import Program, Result
from headrace.steps.service.metrics import StepMetrics
from headrace.steps.service.program_cache import ProgramCache

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# One broken step can fail every row; only the first failures of a batch are logged.
_LOGGED_FAILURES = 3


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs specifications over batches.

    `inline_work`: rows × steps (`Program.weight`) up to which a program runs on the event loop, because a thread would cost
    more; larger batches, and compilation, go to `pool`. `clock`: monotonic seconds. `stage`: the name in timings.
    """

    programs: ProgramCache
    pool: Executor
    inline_work: int
    metrics: StepMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    stage: str

    async def run(self, sha256: str, spec: bytes, batch: Batch, received: float) -> Batch:
        """The outputs for the rows of `batch`, with a timing. `received`: when the call arrived, in monotonic seconds.

        Raises Fault as `ProgramCache.compile` and `Program.run`.
        """
        program = self.programs.find(sha256) or await self._compiled(sha256, spec)
        start = self.clock()
        if len(batch) * program.weight <= self.inline_work:
            outputs, result = run_batch(program, batch, start)
        else:
            loop = asyncio.get_running_loop()
            outputs, result = await loop.run_in_executor(self.pool, run_batch, program, batch, start)
        end = self.clock()
        self._report(outputs, result, end - start)
        timing = Timing(self.stage, self.stage, _micros(start - received), _micros(end - start), len(batch))
        return Batch(outputs.rows, outputs.columns, outputs.errors, (timing,))

    async def _compiled(self, sha256: str, spec: bytes) -> Program:
        # In a thread, also because this may import the module of a user's step.
        loop = asyncio.get_running_loop()
        program = await loop.run_in_executor(self.pool, self.programs.compile, sha256, spec)
        self.programs.keep(sha256, program)
        self.metrics.compiled(len(self.programs))
        return program

    def _report(self, outputs: Batch, result: Result | None, seconds: float) -> None:
        self.metrics.ran(len(outputs), seconds, outputs.errors.values())
        if result is None:
            return
        self.metrics.unseen(result.unseen)
        ids = outputs.rows.request_ids
        broken = [ids[row] for row, e in outputs.errors.items() if e.reason == Reason.REASON_STEP_FAILED]
        for failure in result.failures[:_LOGGED_FAILURES]:
            self.log.error("step failed", step=failure.step, request_ids=some(broken), exc_info=failure.error)


def _micros(seconds: float) -> int:
    return max(int(seconds * 1e6), 0)
