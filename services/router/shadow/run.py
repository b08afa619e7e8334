"""Runs copied batches on a shadow's route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Rows, concat
from headrace.pipeline import PlannedStage, kind_of
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.run import RouteResult, RouteRun
from services.router.shadow.queue import Copied
from services.router.stages.runner import StageResult, StageRunner

# Below every live priority, which is 1 to 10: every limiter sheds these rows first.
PRIORITY = 0
# No deadline for the whole run, as it may wait between its stages; each stage gets the pipeline's own.
_RUN_S = 3600.0


class Turn:
    """One run's way to wait for its turn before each stage. `gate`: waits; `began`, `ended`: around the stage. Seconds that it
    worked are in `worked`."""

    def __init__(
        self,
        gate: Callable[[], Awaitable[None]],
        began: Callable[[], None],
        ended: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._gate, self._began, self._ended, self._clock = gate, began, ended, clock
        self.worked = 0.0

    async def run(self, runner: StageRunner, batch: Batch, deadline_s: float) -> StageResult:
        """Waits for the turn, then runs the stage with that much time. Raises Fault as the runner does."""
        await self._gate()
        started = self._clock()
        rows = replace(batch.rows, deadlines=[started + deadline_s] * len(batch))
        self._began()
        try:
            return await runner.run(Batch(rows, batch.columns, batch.errors))
        finally:
            self._ended()
            self.worked += self._clock() - started


@dataclass(frozen=True, slots=True)
class Turned:
    """A stage's runner that waits for its turn."""

    runner: StageRunner
    turn: Turn
    deadline_s: float

    @property
    def service(self) -> str:
        return self.runner.service

    async def run(self, batch: Batch) -> StageResult:
        return await self.turn.run(self.runner, batch, self.deadline_s)


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows of copied batches that run as one batch: `rows[i]` are positions in `copied[i]`."""

    copied: Sequence[Copied]
    rows: Sequence[NDArray[np.intp]]

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def joined(self, part: Callable[[Copied], Batch]) -> Batch:
        """A batch of each, with these rows of it, as one."""
        parts = []
        for copied, rows in zip(self.copied, self.rows, strict=True):
            whole = part(copied)
            parts.append(whole if len(rows) == len(whole) else whole.take(rows))
        return concat(parts)


def portions(copied: Sequence[Copied], rows: int) -> Iterator[Portion]:
    """Portions of at most so many rows: all of them in one if they fit, else each copied batch by itself."""
    wanted = [np.arange(len(c.batch)) if c.rows is None else c.rows for c in copied]
    if sum(map(len, wanted)) <= rows:
        yield Portion(copied, wanted)
        return
    for one, all_of_it in zip(copied, wanted, strict=True):
        for start in range(0, len(all_of_it), rows):
            yield Portion([one], [all_of_it[start : start + rows]])


class ShadowObserver(Protocol):
    """Sees what shadows answered."""

    def answered(self, portion: Portion, result: RouteResult, seconds: float) -> None:
        """The shadow worked so long for the rows of a portion. It must be quick and never raise."""
        ...


async def run_portion(
    portion: Portion,
    turn: Turn,
    clock: Callable[[], float],
    observer: ShadowObserver | None = None,
) -> int:
    """Runs the rows on the shadow's route; returns how many failed.

    Raises Fault if the shadow's pipeline needs an input that the batch does not have.
    """
    route = portion.copied[0].shadow.route
    batch = portion.joined(lambda c: Batch(c.batch.rows, c.batch.columns))
    given, count = batch.rows, len(batch)
    shadowed = Rows(
        given.request_ids, given.tenants, [PRIORITY] * count, [clock() + _RUN_S] * count, [""] * count
    )
    turned = tuple(Turned(r, turn, route.plan.pipeline.deadline_ms / 1000) for r in route.runners)
    known = _known(portion, route)
    run = RouteRun(
        Route(route.name, route.plan, turned), Batch(shadowed, batch.columns), clock, Meter(), known
    )
    result = await run.run()
    if observer is not None:
        observer.answered(portion, result, turn.worked)
    return len(result.batch.errors)


def _known(portion: Portion, route: Route) -> dict[int, StageResult]:
    """Results of the shadow's stages that are known, if they are for all copied batches."""
    found = [reused(c.live, route, c.result) for c in portion.copied]
    known = {}
    for i in found[0]:
        if all(i in f and len(f[i].columns) == len(found[0][i].columns) for f in found):
            given = {id(c): f[i] for c, f in zip(portion.copied, found, strict=True)}
            whole = portion.joined(
                lambda c, given=given: Batch(  # type: ignore[misc]  # mypy knows no lambdas with defaults
                    c.batch.rows, {x.name: x for x in given[id(c)].columns}, given[id(c)].errors
                )
            )
            known[i] = StageResult(list(whole.columns.values()), errors=whole.errors)
    return known


def reused(live: Route, shadow: Route, result: RouteResult) -> dict[int, StageResult]:
    """Stages of the shadow that read stores, and that the live route has too, with what they gave there: by position in the
    shadow's plan.

    Only stages that read nothing but inputs: other columns may differ between the arms.
    """
    found: dict[int, StageResult] = {}
    stages = {p.stage.name: p for p in live.plan.stages}
    inputs = {field.name for field in live.plan.pipeline.inputs}
    for i, planned in enumerate(shadow.plan.stages):
        same = stages.get(planned.stage.name)
        if (
            kind_of(planned.stage).varies
            and same is not None
            and same.stage == planned.stage
            and inputs.issuperset(planned.reads)
        ):
            given = _given(same, result)
            if given is not None:
                found[i] = given
    return found


def _given(planned: PlannedStage, result: RouteResult) -> StageResult | None:
    """What a stage gave, for all rows of the batch; None: that is not known any more."""
    name = planned.stage.name
    errors = {row: error for row, error in result.batch.errors.items() if error.stage == name}
    columns = [result.columns[n] for n in planned.writes if n in result.columns]
    if len(columns) < len(planned.writes) and len(errors) < len(result.batch):
        return None
    return StageResult(columns, errors=errors)
