"""Runs the stages of one pipeline over one batch: each as soon as the columns that it reads exist."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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


@dataclass(slots=True)
class RouteResult:
    """Outputs and annotations of one route, rows in the order of the batch. `fallbacks[i]` is bit i of the column
    `@fallbacks`."""

    batch: Batch
    fallbacks: list[str]
    models: list[ModelUse]
    # Inputs and all that the stages wrote, by name; empty where the results of several routes were joined.
    columns: Mapping[str, Column] = field(default_factory=dict)


@dataclass(slots=True)
class RouteRun:
    """One batch on one route: what its stages have written so far, and which stages still wait."""

    route: Route
    batch: Batch
    clock: Callable[[], float]
    meter: Meter
    # Stages, by position in the plan, whose results for all rows of the batch are known already: they are not run.
    known: Mapping[int, StageResult] = field(default_factory=dict)
    began: float = field(init=False)
    # Rows of the batch.
    count: int = field(init=False)
    columns: dict[str, Column] = field(init=False)
    annotations: dict[str, Column] = field(default_factory=dict)
    errors: dict[int, RowError] = field(init=False)
    fallbacks: dict[str, Mask] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    models: dict[str, Sequence[ModelUse]] = field(default_factory=dict)
    waiting: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.began, self.count = self.clock(), len(self.batch)
        self.columns = dict(self.batch.columns)
        self.errors = dict(self.batch.errors)
        self.waiting = [len(s.after) for s in self.route.plan.stages]

    async def run(self) -> RouteResult:
        """Runs all stages. Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        self.check_inputs()
        await self.run_stages()
        return self.result()

    def check_inputs(self) -> None:
        """Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        pipeline = self.route.plan.pipeline
        for declared in pipeline.inputs:
            column = self.columns.get(declared.name)
            if column is None or column.dtype is not declared.dtype or column.row_shape != declared.row_shape:
                raise errors.input_missing(pipeline.name, declared.name)

    def run_stages(self) -> Coroutine[Any, Any, None]:
        """Runs all stages; what they give is in this object."""
        first = self.route.plan.first
        if self.route.plan.is_chain:
            return self._follow(first[0], None)  # it needs no tasks
        return self._run_branches(first)

    async def _run_branches(self, first: Sequence[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for i in first:
                group.create_task(self._follow(i, group))

    async def _follow(self, i: int, group: asyncio.TaskGroup | None) -> None:
        """Runs a stage, then the stages for which it was the last to wait for: one of them here, each other in a task."""
        while True:
            await self._run_stage(i)
            ready = []
            for j in self.route.plan.stages[i].before:
                self.waiting[j] -= 1
                if self.waiting[j] == 0:
                    ready.append(j)
            if not ready:
                return
            for j in ready[1:]:
                assert group is not None, "a chain has one successor"
                group.create_task(self._follow(j, group))
            i = ready[0]

    async def _run_stage(self, i: int) -> None:
        planned = self.route.plan.stages[i]
        if i in self.known:
            self._take(planned.stage.name, self.known[i], None)
            return
        runner, name, started = self.route.runners[i], planned.stage.name, self.clock()
        for row, late in self.batch.expired(started, name).items():
            self.errors.setdefault(row, late)
        live = self._live() if self.errors else None
        count = self.count if live is None else len(live)
        if count == 0:
            return
        reads = [*planned.reads]
        if REPLICA in self.columns and is_by_replica(runner):
            reads.append(REPLICA)
        sent = Batch(self.batch.rows, {n: self.columns[n] for n in reads})
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
        self._time(name, runner.service, started, count, result)

    def _live(self) -> NDArray[np.intp]:
        """The rows without an error."""
        mask = np.ones(self.count, bool)
        mask[list(self.errors)] = False
        return np.flatnonzero(mask)

    def _take(self, stage: str, result: StageResult, live: NDArray[np.intp] | None) -> None:
        """Adds the result of a stage for the rows that it was sent; `live` None: all."""
        count = self.count
        rows = None if live is None else live.tolist()
        for position, error in result.errors.items():
            row = position if rows is None else rows[position]
            if row not in self.errors:
                self.errors[row] = error if error.stage == stage else replace(error, stage=stage)
        for column in result.columns:
            self.columns[column.name] = column if live is None else scatter(column, live, count)
        for column in result.annotations:
            filled = column if live is None else scatter(column, live, count, absent(column.dtype))
            self.annotations[column.name] = filled
        for name, used in result.fallbacks.items():
            if live is not None:
                mask = np.zeros(count, bool)
                mask[live] = used
                used = mask
            self.fallbacks[name] = used
        self.refusals.update(result.refusals)
        if result.models:
            self.models[stage] = result.models
        for model, asked in result.asked.items():
            self.meter.asked(self.route.plan.pipeline.name, stage, model, asked)

    def _time(self, stage: str, service: str, started: float, count: int, result: StageResult) -> None:
        """Records how long a stage took, and the callee's own timings."""
        seconds = self.clock() - started
        self.meter.stage(self.route.plan.pipeline.name, stage, seconds)
        start_us, took_us = int((started - self.began) * 1e6), int(seconds * 1e6)
        self.timings.append(Timing(stage, service, start_us, took_us, count, result.attributes))
        if result.timings:
            self.timings += result.timings_within(stage, start_us, took_us)

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
        codes: dict[str, int] = {}
        for error in self.errors.values():
            codes[error.code.name] = codes.get(error.code.name, 0) + 1
        if len(self.errors) < self.count:
            codes["OK"] = self.count - len(self.errors)
        for code, rows in codes.items():
            self.meter.rows(name, code, rows)


def absent(dtype: DType) -> int:
    """What an annotation holds for a row of which it says nothing: −1 if its type is signed, else 0."""
    return -1 if dtype.numpy.kind == "i" else 0


def bits(fallbacks: Mapping[str, Mask], count: int) -> Column:
    """The column `@fallbacks`: uint64 (rows,), bit i for the i-th name."""
    values = np.zeros(count, np.uint64)
    for i, used in enumerate(list(fallbacks.values())[:MAX_FALLBACKS]):
        values |= used.astype(np.uint64) << np.uint64(i)
    return Column(FALLBACKS, DType.UINT64, values)
