"""Runs the stages of one pipeline over one batch: each as soon as the columns that it reads exist."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, RowError, Timing
from headrace.columns.column import Mask
from headrace.hop.errors import Fault, reason_name
from headrace.pipeline import ModelUse, null_column
from services.router import errors
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.scatter import scatter
from services.router.stages.by_replica import REPLICA, is_by_replica
from services.router.stages.runner import StageResult

FALLBACKS = "@fallbacks"
# One bit each. A pipeline has up to sixteen views with four fallbacks each, and models on standbys, but no batch is expected
# to use more than 64 of them.
MAX_FALLBACKS = 64
_NAME = attrgetter("name")


@dataclass(slots=True)
class RouteResult:
    """Outputs and annotations of one route, rows in the order of the batch. `fallbacks[i]` is bit i of the column
    `@fallbacks`."""

    batch: Batch
    fallbacks: list[str]
    models: list[ModelUse]
    # Inputs and all that the stages wrote, by name; empty where the results of several routes were joined.
    columns: Mapping[str, Column] = field(default_factory=dict)


class RouteRun:
    """One batch on one route: what its stages have written so far."""

    def __init__(
        self,
        route: Route,
        batch: Batch,
        clock: Callable[[], float],
        meter: Meter,
        known: Mapping[int, StageResult] = MappingProxyType({}),
    ) -> None:
        """`known`: stages, by position in the plan, whose results for all rows of the batch are known already: they are not
        run."""
        self.route = route
        self.batch = batch
        self.clock = clock
        self.meter = meter
        self.known = known
        self.began = clock()
        self.count = len(batch.rows.request_ids)
        self.columns: dict[str, Column] = dict(batch.columns)
        self.annotations: dict[str, Column] = {}
        self.errors: dict[int, RowError] = dict(batch.errors)
        self.fallbacks: dict[str, Mask] = {}
        self.refusals: dict[str, int] = {}
        self.timings: list[Timing] = []
        self.models: dict[str, Sequence[ModelUse]] = {}
        self._first_deadline = min(batch.rows.deadlines, default=math.inf)

    async def run(self) -> RouteResult:
        """Runs all stages. Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        self.check_inputs()
        await self.run_stages()
        return self.result()

    def check_inputs(self) -> None:
        """Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        declared = self.route.inputs
        if declared.of(self.columns) is None:
            raise errors.input_missing(self.route.plan.pipeline.name, declared.misfit(self.columns))

    async def run_stages(self) -> None:
        """Runs all stages; what they give is in this object."""
        plan = self.route.plan
        if not plan.is_chain:
            waiting = [len(stage.after) for stage in plan.stages]
            async with asyncio.TaskGroup() as group:
                for i in plan.first:
                    group.create_task(self._follow(i, waiting, group))
            return
        following = plan.first
        while following:
            await self._run_stage(following[0])
            following = plan.stages[following[0]].before

    async def _follow(self, i: int, waiting: list[int], group: asyncio.TaskGroup) -> None:
        """Runs a stage, then the stages for which it was the last to wait for: one of them here, each other in a task.
        `waiting`: for how many each stage waits."""
        while True:
            await self._run_stage(i)
            ready = []
            for j in self.route.plan.stages[i].before:
                waiting[j] -= 1
                if waiting[j] == 0:
                    ready.append(j)
            if not ready:
                return
            for j in ready[1:]:
                group.create_task(self._follow(j, waiting, group))
            i = ready[0]

    async def _run_stage(self, i: int) -> None:
        planned = self.route.plan.stages[i]
        name = planned.stage.name
        if i in self.known:
            self._take(name, self.known[i], None)
            return
        runner, started = self.route.runners[i], self.clock()
        if started >= self._first_deadline:
            for row, late in self.batch.expired(started, name).items():
                self.errors.setdefault(row, late)
        live = self._live() if self.errors else None
        count = self.count if live is None else len(live)
        if count == 0:
            return
        reads, columns = planned.reads, self.columns
        if REPLICA in columns and is_by_replica(runner):
            reads = (*reads, REPLICA)
        sent = Batch(self.batch.rows, dict(zip(reads, map(columns.__getitem__, reads), strict=True)))
        if live is not None:
            sent = sent.take(live)
        try:
            result = await runner.run(sent)
        except Fault as fault:
            error = RowError.of(fault, name)
            result = StageResult(
                errors=dict.fromkeys(range(count), error), attributes={"error": reason_name(fault.reason)}
            )
        self._take(name, result, live)
        seconds = self.clock() - started
        self.meter.stage(self.route.plan.pipeline.name, name, seconds)
        start_us, took_us = int((started - self.began) * 1e6), int(seconds * 1e6)
        self.timings += result.times(name, runner.service, start_us, took_us, count)

    def _live(self) -> NDArray[np.intp]:
        """The rows without an error."""
        mask = np.ones(self.count, bool)
        mask[list(self.errors)] = False
        return np.flatnonzero(mask)

    def _take(self, stage: str, result: StageResult, live: NDArray[np.intp] | None) -> None:
        """Adds the result of a stage for the rows that it was sent; `live` None: all."""
        columns, annotations, fallbacks = result.columns, result.annotations, result.fallbacks
        if result.errors:
            rows = range(self.count) if live is None else live.tolist()
            for position, error in result.errors.items():
                if rows[position] not in self.errors:
                    error = error if error.stage == stage else replace(error, stage=stage)
                    self.errors[rows[position]] = error
        if live is not None:
            count = self.count
            columns = [scatter(c, live, count) for c in columns]
            annotations = [scatter(c, live, count, absent(c.dtype)) for c in annotations]
            fallbacks = {name: _spread(used, live, count) for name, used in fallbacks.items()}
        self.columns.update(zip(map(_NAME, columns), columns, strict=True))
        if annotations:
            self.annotations.update(zip(map(_NAME, annotations), annotations, strict=True))
        self.fallbacks |= fallbacks
        self.refusals |= result.refusals
        if result.models:
            self.models[stage] = result.models
        for model, asked in result.asked.items():
            self.meter.asked(self.route.plan.pipeline.name, stage, model, asked)

    def result(self) -> RouteResult:
        """What the stages gave, and counts it."""
        pipeline, count = self.route.plan.pipeline, self.count
        columns: dict[str, Column] = {}
        for output in pipeline.outputs:
            column = self.columns.get(output.name)
            columns[output.name] = null_column(output.name, output.type, count) if column is None else column
        columns.update(self.annotations)
        columns[FALLBACKS] = bits(self.fallbacks, count)
        self._count()
        batch = Batch(self.batch.rows, columns, self.errors, self.timings)
        return RouteResult(
            batch,
            list(self.fallbacks)[:MAX_FALLBACKS],
            [used for stage in self.models.values() for used in stage],
            self.columns,
        )

    def _count(self) -> None:
        name = self.route.plan.pipeline.name
        for fallback, used in self.fallbacks.items():
            self.meter.fallback(name, fallback, int(np.count_nonzero(used)))
        for cause, rows in self.refusals.items():
            self.meter.refusal(name, cause, rows)
        if len(self.errors) < self.count:
            self.meter.rows(name, "OK", self.count - len(self.errors))
        if self.errors:
            for code, rows in Counter(error.code.name for error in self.errors.values()).items():
                self.meter.rows(name, code, rows)


def absent(dtype: DType) -> int:
    """What an annotation holds for a row of which it says nothing: −1 if its type is signed, else 0."""
    return -1 if dtype.numpy.kind == "i" else 0


def _spread(used: Mask, live: NDArray[np.intp], count: int) -> Mask:
    mask = np.zeros(count, bool)
    mask[live] = used
    return mask


def bits(fallbacks: Mapping[str, Mask], count: int) -> Column:
    """The column `@fallbacks`: uint64 (rows,), bit i for the i-th name."""
    values = np.zeros(count, np.uint64)
    for i, used in zip(range(MAX_FALLBACKS), fallbacks.values(), strict=False):
        values |= used.astype(np.uint64) << np.uint64(i)
    return Column(FALLBACKS, DType.UINT64, values)
