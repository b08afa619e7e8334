"""Stages that all routes of a batch have: they run once for all of its rows, before the routes part.

Two versions of a model mostly have the same features and the same preparation. Run apart, a canary with a twentieth of the rows
would double the calls of these stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, Timing
from services.router.ports import Meter
from services.router.routes.route import Route
from services.router.routes.run import RouteResult, RouteRun
from services.router.stages.runner import StageResult

# Sets of routes that are remembered; there are a few for each release.
_REMEMBERED = 256


class SharedStages:
    """Finds the stages that routes share. What was found is remembered."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, ...], tuple[Sequence[Route], frozenset[int]]] = {}

    def of(self, routes: Sequence[Route]) -> frozenset[int]:
        """Positions of the stages that are the same in all routes, and that follow on none that is not."""
        key = tuple([id(route) for route in routes])
        found = self._found.get(key)
        # The routes themselves are kept beside it, so that no other can have the id of one of them.
        if found is None:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            found = self._found[key] = (tuple(routes), _shared(routes))
        return found[1]


def _shared(routes: Sequence[Route]) -> frozenset[int]:
    if any(route.cached is not None for route in routes):
        return frozenset()  # a cache has its own order of stages
    shared: set[int] = set()
    first, *others = [route.plan.stages for route in routes]
    # A stage comes after those that it waits for.
    for i, planned in enumerate(first):
        same = all(i < len(stages) and stages[i].stage == planned.stage for stages in others)
        if same and shared.issuperset(planned.after):
            shared.add(i)
    return frozenset(shared)


class SharedRun:
    """A batch on the stages that its routes share."""

    def __init__(
        self, route: Route, shared: frozenset[int], batch: Batch, clock: Callable[[], float], meter: Meter
    ) -> None:
        """`route`: one of them."""
        self._shared = shared
        rest = dict.fromkeys(set(range(len(route.plan.stages))) - shared, StageResult())
        self._run = RouteRun(route, batch, clock, meter, rest)
        self._counted = False

    async def run(self) -> None:
        """Runs them. Raises Fault INVALID_ARGUMENT if the batch lacks an input."""
        self._run.check_inputs()
        await self._run.run_stages()

    def continued(self, route: Route, batch: Batch, rows: NDArray[np.intp]) -> RouteRun:
        """The run of a route that goes on from there with some of the rows; `batch` holds these."""
        done = self._run
        run = _begun_with(done, route, batch, dict.fromkeys(self._shared, StageResult()))
        place = {row: position for position, row in enumerate(rows.tolist())}
        run.errors |= {place[row]: error for row, error in done.errors.items() if row in place}
        added = done.columns.keys() - done.batch.columns.keys()
        run.columns |= _taken({name: done.columns[name] for name in added}, rows)
        run.annotations |= _taken(done.annotations, rows)
        run.fallbacks |= {name: used[rows] for name, used in done.fallbacks.items()}
        run.models |= done.models
        if not self._counted:
            self._counted = True
            run.refusals |= done.refusals
        run.timings += [_part_of(timing, len(rows) / done.count) for timing in done.timings]
        return run

    def timings(self, results: Iterable[RouteResult]) -> list[Timing]:
        """Of all stages of the batch, those of the shared ones once; `results`: of all runs that were `continued`."""
        own = len(self._run.timings)
        return [*self._run.timings, *(t for result in results for t in result.batch.timings[own:])]


def _begun_with(done: RouteRun, route: Route, batch: Batch, known: dict[int, StageResult]) -> RouteRun:
    """A new run whose times count from when `done` began."""
    run = RouteRun(route, batch, done.clock, done.meter, known)
    run.began = done.began
    return run


def _part_of(timing: Timing, part: float) -> Timing:
    """A timing for a part of the rows: of the stage's own one, which says how many were sent, so many are a route's."""
    return timing if "/" in timing.stage else replace(timing, row_count=round(timing.row_count * part))


def _taken(columns: dict[str, Column], rows: NDArray[np.intp]) -> dict[str, Column]:
    return {name: column.take(rows) for name, column in columns.items()}
