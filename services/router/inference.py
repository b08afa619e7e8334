"""One inference: find the pipeline, choose routes, run them, join their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.columns.column import Mask
from headrace.hop.errors import Fault
from headrace.pipeline import Decision
from services.router.cache.run import run_route
from services.router.pipelines import Pipelines, Served
from services.router.ports import Meter
from services.router.routes.join import decision_column, join
from services.router.routes.observer import RunObserver
from services.router.routes.route import Route, Share
from services.router.routes.run import RouteResult
from services.router.ticks.counters import Counters, Part


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The outputs and annotations of all rows, and the routes (`@decision` is the index, if several)."""

    batch: Batch
    fallbacks: Sequence[str]
    decisions: Sequence[Decision]


class Inference:
    """Runs pipelines over batches. `refresh`: reads changed documents now. `clock`: monotonic seconds. `observers`: see each
    run on a route. `counters`: count what each arm answered."""

    def __init__(
        self,
        pipelines: Pipelines,
        refresh: Callable[[], Awaitable[None]],
        meter: Meter,
        clock: Callable[[], float],
        observers: Sequence[RunObserver] = (),
        counters: Counters | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._refresh = refresh
        self._meter = meter
        self._clock = clock
        self._observers = observers
        self._counters = counters or Counters()

    async def infer(self, pipeline: str, version: int, batch: Batch) -> PipelineResult:
        """Runs a pipeline over a batch with one column per input; `version` 0 = the current one.

        Rows that fail carry a row error, as do those that the release's caps refuse. Raises Fault NOT_FOUND for a pipeline or
        version that is not served, INVALID_ARGUMENT for a batch without an input of the pipeline.
        """
        arrived = self._clock()
        served = await self._find(pipeline, version)
        if served.caps is None:
            return await self._run(served, batch, arrived)
        # Before anything is computed: rows that are refused run no stage.
        batch, rows = served.caps.admit(batch)
        try:
            return await self._run(served, batch, arrived)
        finally:
            served.caps.release(rows)

    async def _run(self, served: Served, batch: Batch, arrived: float) -> PipelineResult:
        if served.rule is None:
            shares: Sequence[Share] = (Share(served.routes[0]),)
        else:
            shares = served.rule.choose(served.routes, batch)
        if len(shares) > 1:
            return await self._run_shares(served, shares, batch, arrived)
        share = shares[0]
        result = await self._answer(served, share.route, _part(share, batch), arrived)
        answer = result.batch
        if share.chosen is not None:
            answer = answer.with_columns([decision_column(share.chosen.astype(np.uint32))])
        return PipelineResult(answer, result.fallbacks, _decisions(served, share, result))

    async def _find(self, pipeline: str, version: int) -> Served:
        try:
            return self._pipelines.find(pipeline, version)
        except Fault:
            # The ingress may have seen that another replica serves a new release before this one did.
            await self._refresh()
            return self._pipelines.find(pipeline, version)

    async def _answer(self, served: Served, route: Route, part: Part, arrived: float) -> RouteResult:
        """Runs a route; those who watch see it, and its rows are counted."""
        ended = [observer.begin(served, route, part.batch) for observer in self._observers]
        # Whoever watches need not see which replica runs which row.
        batch = part.batch if served.partition is None else served.partition.mark(part.batch)
        result = None
        try:
            result = await run_route(route, batch, self._clock, self._meter)
        except Fault:
            raise  # the batch does not fit the pipeline: no arm's fault
        except Exception:
            self._counters.failed(served.counted, part, self._clock() - arrived)
            raise
        finally:
            for end in ended:
                end(result)
        self._counters.answered(served.counted, part, result.batch, self._clock() - arrived)
        return result

    async def _run_shares(
        self, served: Served, shares: Sequence[Share], batch: Batch, arrived: float
    ) -> PipelineResult:
        parts = [(s, s.rows) for s in shares if s.rows is not None]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._answer(served, s.route, _part(s, batch, rows), arrived))
                for s, rows in parts
            ]
        results = [task.result() for task in tasks]
        decisions: list[Decision] = []
        decided = []
        for (share, rows), result in zip(parts, results, strict=True):
            index = np.zeros(len(rows), np.uint32) if share.chosen is None else share.chosen
            decided.append((index + len(decisions)).astype(np.uint32))
            decisions += _decisions(served, share, result)
        joined = join(results, [rows for _, rows in parts], decided)
        return PipelineResult(joined.batch, joined.fallbacks, decisions)


def _part(share: Share, whole: Batch, rows: NDArray[np.intp] | None = None) -> Part:
    """The rows that a route answers; `rows` None: all."""
    route, batch = share.route, whole if rows is None else whole.take(rows)
    return Part(route.name, route.plan.pipeline, whole, batch, rows, _by_rule(share, len(batch)))


def _by_rule(share: Share, count: int) -> Mask | None:
    """The rows of a share that a rule sent there; None: none."""
    if not any(choice.rule for choice in share.choices):
        return None
    if share.chosen is None:
        return np.ones(count, bool)
    return np.array([bool(choice.rule) for choice in share.choices])[share.chosen]


def _decisions(served: Served, share: Share, result: RouteResult) -> list[Decision]:
    """What rows of the share are told, one for each of its choices."""
    route, release = share.route, 0 if served.rule is None else served.rule.release
    ran = route.plan.pipeline
    return [
        Decision(ran.version, ran.revision, route.name, result.models, release, choice.rule, choice.sticky)
        for choice in share.choices
    ]
