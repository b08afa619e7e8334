"""A model as a part of a stage that runs several: its call, the time that it may take, and what becomes of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Batch, Column, DType, RowError, Rows, Timing
from headrace.columns.column import Mask
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.pipeline import MODELS_USED, ModelUse
from services.router.stages.runner import StageResult, StageRunner


@dataclass(frozen=True, slots=True)
class Limit:
    """The most time that a part may take of a row's: `budget_s`, and `share` of what is left when the part begins."""

    budget_s: float | None
    share: float = 1.0

    def deadlines(self, deadlines: Iterable[float], now: float) -> list[float]:
        """The deadlines (monotonic seconds) of rows with `deadlines`, for this part."""
        last = np.inf if self.budget_s is None else now + self.budget_s
        return [min(now + self.share * (d - now), last) for d in deadlines]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one part says of the rows that it was asked for: `columns` by name (none if every row failed), `errors` by position.

    `used`: None if its service could not be asked at all.
    """

    columns: Mapping[str, Column]
    errors: Mapping[int, RowError]
    standby: Mask | None
    used: ModelUse | None
    timings: list[Timing]

    def answered(self, count: int) -> Mask:
        """bool (rows,): the rows without an error."""
        mask = np.ones(count, bool)
        mask[list(self.errors)] = False
        return mask


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a stage. `name`: in timings. `limit` None: it has all the time of the row."""

    name: str
    runner: StageRunner
    limit: Limit | None = None

    async def ask(self, batch: Batch, began: float, clock: Callable[[], float]) -> Answer:
        """Asks the model; a call that fails is the error of each row. `began`: when the stage began (monotonic seconds)."""
        started = clock()
        try:
            result = await self._run(batch, started)
        except Fault as fault:
            error = RowError.of(fault)
            attributes = {"error": reason_name(fault.reason)}
            result = StageResult(errors=dict.fromkeys(range(len(batch)), error), attributes=attributes)
        timings = self._timings(result, len(batch), started - began, clock() - started)
        standby = next(iter(result.fallbacks.values()), None)
        used = result.models[0] if result.models else None
        return Answer({c.name: c for c in result.columns}, result.errors, standby, used, timings)

    async def _run(self, batch: Batch, now: float) -> StageResult:
        if self.limit is None:
            return await self.runner.run(batch)
        given = batch.rows
        deadlines = self.limit.deadlines(given.deadlines, now)
        rows = Rows(given.request_ids, given.tenants, given.priorities, deadlines, given.traceparents)
        # The call is ended here and not by hop's own deadline, which would count it as a failure of the replica: the breaker
        # would then refuse the stage's other models too.
        try:
            async with asyncio.timeout(max(deadlines) - now):
                return await self.runner.run(Batch(rows, batch.columns, batch.errors, batch.timings))
        except TimeoutError:
            raise _late(self.name) from None

    def _timings(self, result: StageResult, count: int, start_s: float, took_s: float) -> list[Timing]:
        """The part's own, and its callee's, which end when the part ends."""
        start_us, took_us = int(start_s * 1e6), int(took_s * 1e6)
        return result.times(self.name, self.runner.service, start_us, took_us, count)


def _late(part: str) -> Fault:
    message = f"{part} did not answer within its part of the row's time"
    return Fault(Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, message, metadata={"part": part})


def models_used(stage: str, used: Iterable[Mask], count: int) -> Column:
    """The annotation that says which of a stage's models took part in each row: bit i for the i-th of its ModelUses."""
    values = np.zeros(count, np.uint32)
    for i, mask in enumerate(used):
        values |= mask.astype(np.uint32) << np.uint32(i)
    return Column(MODELS_USED + stage, DType.UINT32, values)
