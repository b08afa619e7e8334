"""What both services do with a batch: find the program, run it where it disturbs least, tell how it went."""

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
from headrace.steps.service.metrics import Instruments
from headrace.steps.service.program_cache import Programs

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# One broken step can fail every row; the log needs to be told only so often.
_LOGGED_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs specifications over batches.

    `inline_work`: rows × steps (`Program.weight`) up to which the event loop does the work itself (handing it to
    a thread costs more); `pool` does the rest, and compiles.
    """

    programs: Programs
    pool: Executor
    inline_work: int
    instruments: Instruments
    log: FilteringBoundLogger
    clock: Callable[[], float]
    stage: str

    async def run(self, sha256: str, spec: bytes, batch: Batch, received: float) -> Batch:
        """The outputs for the rows of `batch`, with the time it took; `received`: when the call came.

        Raises Fault as `Programs.compile` and `Program.run`.
        """
        program = self.programs.find(sha256) or await self._compiled(sha256, spec)
        start = self.clock()
        if len(batch) * program.weight <= self.inline_work:
            outputs, result = run_batch(program, batch, start)
        else:
            loop = asyncio.get_running_loop()
            outputs, result = await loop.run_in_executor(self.pool, run_batch, program, batch, start)
        end = self.clock()
        self._tell(outputs, result, end - start)
        timing = Timing(self.stage, self.stage, _micros(start - received), _micros(end - start), len(batch))
        return Batch(outputs.rows, outputs.columns, outputs.errors, (timing,))

    async def _compiled(self, sha256: str, spec: bytes) -> Program:
        # A thread also because a user's step may be imported here for the first time.
        loop = asyncio.get_running_loop()
        program = await loop.run_in_executor(self.pool, self.programs.compile, sha256, spec)
        self.programs.keep(sha256, program)
        self.instruments.compiled(len(self.programs))
        return program

    def _tell(self, outputs: Batch, result: Result | None, seconds: float) -> None:
        self.instruments.ran(len(outputs), seconds, outputs.errors.values())
        if result is None:
            return
        self.instruments.unseen(result.unseen)
        ids = outputs.rows.request_ids
        broken = [ids[row] for row, e in outputs.errors.items() if e.reason == Reason.REASON_STEP_FAILED]
        for failure in result.failures[:_LOGGED_FAILURES]:
            self.log.error("step failed", step=failure.step, request_ids=some(broken), exc_info=failure.error)


def _micros(seconds: float) -> int:
    return max(int(seconds * 1e6), 0)
