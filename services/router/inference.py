"""One inference: find the pipeline, choose routes, run them, join their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from headrace.columns import Batch
from headrace.hop.errors import Fault
from headrace.pipeline import Decision
from services.router.pipelines import Pipelines, Served
from services.router.ports import Meter
from services.router.routes.join import join
from services.router.routes.route import Route, Share
from services.router.routes.run import RouteResult, RouteRun
from services.router.ticks.counters import Counters, Part


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The outputs and annotations of all rows, and the routes (`@decision` is the index, if several)."""

    batch: Batch
    fallbacks: Sequence[str]
    decisions: Sequence[Decision]


class Inference:
    """Runs pipelines over batches. `refresh`: reads changed documents now. `clock`: monotonic seconds. `counters`: count
    what each arm answered."""

    def __init__(
        self,
        pipelines: Pipelines,
        refresh: Callable[[], Awaitable[None]],
        meter: Meter,
        clock: Callable[[], float],
        counters: Counters | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._refresh = refresh
        self._meter = meter
        self._clock = clock
        self._counters = counters or Counters()

    async def infer(self, pipeline: str, version: int, batch: Batch) -> PipelineResult:
        """Runs a pipeline over a batch with one column per input; `version` 0 = the current one.

        Rows that fail carry a row error. Raises Fault NOT_FOUND for a pipeline or version that is not served,
        INVALID_ARGUMENT for a batch without an input of the pipeline.
        """
        arrived = self._clock()
        served = await self._find(pipeline, version)
        shares: Sequence[Share] = ()
        if served.rule is not None:
            shares = served.rule.choose(served.routes, batch)
        if len(shares) > 1:
            return await self._run_shares(served, shares, batch, arrived)
        route = shares[0].route if shares else served.routes[0]
        result = await self._run(served, route, Part(route.name, route.plan.pipeline, batch, batch), arrived)
        return PipelineResult(result.batch, result.fallbacks, [_decision(served, route, result)])

    async def _find(self, pipeline: str, version: int) -> Served:
        try:
            return self._pipelines.find(pipeline, version)
        except Fault:
            # The ingress may have seen that another replica serves a new release before this one did.
            await self._refresh()
            return self._pipelines.find(pipeline, version)

    async def _run(self, served: Served, route: Route, part: Part, arrived: float) -> RouteResult:
        """Runs a route and counts its answer."""
        try:
            result = await RouteRun(route, part.batch, self._clock, self._meter).run()
        except Fault:
            raise  # the batch does not fit the pipeline: no arm's fault
        except Exception:
            self._counters.failed(served.counted, part, self._clock() - arrived)
            raise
        self._counters.answered(served.counted, part, result.batch, self._clock() - arrived)
        return result

    async def _run_shares(
        self, served: Served, shares: Sequence[Share], batch: Batch, arrived: float
    ) -> PipelineResult:
        parts = [(s.route, s.rows) for s in shares if s.rows is not None]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    self._run(
                        served,
                        route,
                        Part(route.name, route.plan.pipeline, batch, batch.take(rows), rows),
                        arrived,
                    )
                )
                for route, rows in parts
            ]
        results = [task.result() for task in tasks]
        joined = join(results, [rows for _, rows in parts])
        decisions = [
            _decision(served, route, result) for (route, _), result in zip(parts, results, strict=True)
        ]
        return PipelineResult(joined.batch, joined.fallbacks, decisions)


def _decision(served: Served, route: Route, result: RouteResult) -> Decision:
    return Decision(served.pipeline.version, served.pipeline.revision, route.name, result.models)
