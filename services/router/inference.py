"""One inference: find the pipeline, choose routes, run them, join their results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.columns.column import Mask
from headrace.hop.errors import Fault
from headrace.pipeline import Decision
from services.router.cache.run import CachedRun
from services.router.events.regulated.commits import Commits
from services.router.events.ring import is_regulated, raised
from services.router.pipelines import Pipelines, Served
from services.router.ports import Meter
from services.router.routes.join import decision_column, join
from services.router.routes.observer import RunObserver
from services.router.routes.route import Route, Share
from services.router.routes.run import RouteResult, RouteRun
from services.router.routes.shared_stages import SharedRun, SharedStages
from services.router.ticks.counters import Counters, Part


@dataclass(slots=True)
class PipelineResult:
    """The outputs and annotations of all rows, and the routes (`@decision` is the index, if several)."""

    batch: Batch
    fallbacks: Sequence[str]
    decisions: Sequence[Decision]


class Inference:
    """Runs pipelines over batches. `refresh`: reads changed documents now. `clock`: monotonic seconds. `observers`: see each
    run on a route. `counters`: count what each arm answered. `commits`: record regulated predictions before they are
    answered; None: nothing is regulated."""

    def __init__(
        self,
        pipelines: Pipelines,
        refresh: Callable[[], Awaitable[None]],
        meter: Meter,
        clock: Callable[[], float],
        observers: Sequence[RunObserver] = (),
        counters: Counters | None = None,
        commits: Commits | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._refresh = refresh
        self._meter = meter
        self._clock = clock
        self._observers = observers
        self._counters = counters or Counters()
        self._commits = commits
        self._shared = SharedStages()

    async def infer(self, pipeline: str, version: int, batch: Batch) -> PipelineResult:
        """Runs a pipeline over a batch with one column per input; `version` 0 = the current one.

        Rows that fail carry a row error, as do those that the release's caps refuse. Raises Fault NOT_FOUND for a pipeline or
        version that is not served, INVALID_ARGUMENT for a batch without an input of the pipeline.
        """
        arrived = self._clock()
        try:
            served = self._pipelines.find(pipeline, version)
        except Fault:
            # The ingress saw the new release at other replicas, and this one may have it, but wait for its models.
            await self._refresh()
            served = self._pipelines.find(pipeline, version)
        caps, admitted = served.caps, 0
        if caps is not None:
            # Before anything is computed: rows that are refused run no stage.
            batch, admitted = caps.admit(batch)
        try:
            if served.rule is None:
                shares: Sequence[Share] = (Share(served.routes[0]),)
            else:
                shares = served.rule.choose(served.routes, batch)
            if len(shares) > 1:
                return await self._run_shares(served, shares, batch, arrived)
            share = shares[0]
            result = await self._answer(served, share.route, _part(share, batch), arrived)
        finally:
            if caps is not None:
                caps.release(admitted)
        answer = result.batch
        if share.chosen is not None:
            answer = answer.with_columns([decision_column(share.chosen.astype(np.uint32))])
        return PipelineResult(answer, result.fallbacks, _decisions(served, share, result))

    async def _answer(
        self, served: Served, route: Route, part: Part, arrived: float, begun: RouteRun | None = None
    ) -> RouteResult:
        """Runs a route, or what is left of it (`begun`); those who watch see it, and its rows are counted."""
        ended = [observer.begin(served, route, part, arrived) for observer in self._observers]
        # Whoever watches need not see which replica runs which row.
        batch = part.batch if served.partition is None else served.partition.mark(part.batch)
        came: RouteResult | BaseException | None = None
        try:
            commits = self._commits
            if commits is not None and is_regulated(served, route, batch):
                came = result = await self._run_regulated(commits, served, route, part, batch, arrived, begun)
            else:
                came = result = await self._run_route(route, batch, begun)
        except BaseException as error:
            came = error
            # A Fault: the batch does not fit the pipeline, which is no arm's fault.
            if isinstance(error, Exception) and not isinstance(error, Fault):
                self._counters.failed(served.counted, part, self._clock() - arrived)
            raise
        finally:
            assert came is not None, "it gave a result or raised"
            for end in ended:
                end(came)
        self._counters.answered(served.counted, part, result.batch, self._clock() - arrived)
        return result

    def _run_route(
        self, route: Route, batch: Batch, begun: RouteRun | None
    ) -> Coroutine[Any, Any, RouteResult]:
        """Runs a route, with its cache if it has one; a route whose run has `begun` has none."""
        if begun is None and route.cached is not None:
            return CachedRun(route.cached, batch, self._clock, self._meter).run()
        return (begun or RouteRun(route, batch, self._clock, self._meter)).run()

    async def _run_regulated(
        self,
        commits: Commits,
        served: Served,
        route: Route,
        part: Part,
        batch: Batch,
        arrived: float,
        begun: RouteRun | None,
    ) -> RouteResult:
        """Runs a route over the rows of `part`, which are those of `batch`. The event is committed when this returns, or the rows
        have errors."""
        if (why := commits.refusal()) is not None:
            nothing = RouteRun(route, batch, self._clock, self._meter)
            nothing.errors = dict.fromkeys(range(len(batch)), why)
            return commits.refused(nothing.result(), why)
        try:
            result = await self._run_route(route, batch, begun)
        except Exception as error:
            await commits.commit(
                served, route, part, raised(route, part.batch, error), self._clock() - arrived
            )
            raise
        return await commits.commit(served, route, part, result, self._clock() - arrived)

    async def _run_shared(
        self, served: Served, routes: Sequence[Route], parts: Sequence[Part], batch: Batch, arrived: float
    ) -> SharedRun | None:
        """Runs the stages that the routes share for all rows; None: there are none, each row has a replica of its own, or
        rows are refused before anything is computed."""
        stages = self._shared.of(routes) if served.partition is None else frozenset()
        commits = self._commits
        refused = commits is not None and commits.refusal() is not None
        if not stages or (refused and self._is_regulated(served, parts, routes)):
            return None
        shared = SharedRun(routes[0], stages, batch, self._clock, self._meter)
        try:
            await shared.run()
        except Exception as error:
            for route, part in zip(routes, parts, strict=True):
                await self._end_unanswered(served, route, part, arrived, error)
            raise
        return shared

    async def _end_unanswered(
        self, served: Served, route: Route, part: Part, arrived: float, error: Exception
    ) -> None:
        """What the routes share raised, so this one gives its rows no answer either."""
        for observer in self._observers:
            observer.begin(served, route, part, arrived)(error)
        seconds, commits = self._clock() - arrived, self._commits
        if not isinstance(error, Fault):
            self._counters.failed(served.counted, part, seconds)
        if commits is not None and is_regulated(served, route, part.batch):
            await commits.commit(served, route, part, raised(route, part.batch, error), seconds)

    def _is_regulated(self, served: Served, parts: Sequence[Part], routes: Sequence[Route]) -> bool:
        """Whether some of the rows may not be computed while nothing can record it."""
        return any(is_regulated(served, route, part.batch) for route, part in zip(routes, parts, strict=True))

    async def _run_shares(
        self, served: Served, shares: Sequence[Share], batch: Batch, arrived: float
    ) -> PipelineResult:
        parts = [(s, s.rows) for s in shares if s.rows is not None]
        split = [_part(s, batch, rows) for s, rows in parts]
        shared = await self._run_shared(served, [s.route for s, _ in parts], split, batch, arrived)
        runs = [
            None if shared is None else shared.continued(s.route, part.batch, rows)
            for (s, rows), part in zip(parts, split, strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._answer(served, s.route, part, arrived, run))
                for (s, _), part, run in zip(parts, split, runs, strict=True)
            ]
        results = [task.result() for task in tasks]
        decisions: list[Decision] = []
        decided = []
        for (share, rows), result in zip(parts, results, strict=True):
            index = np.zeros(len(rows), np.uint32) if share.chosen is None else share.chosen
            decided.append((index + len(decisions)).astype(np.uint32))
            decisions += _decisions(served, share, result)
        joined = join(results, [rows for _, rows in parts], decided)
        answer = joined.batch
        if shared is not None:
            answer = replace(answer, timings=shared.timings(results))
        return PipelineResult(answer, joined.fallbacks, decisions)


def _part(share: Share, whole: Batch, rows: NDArray[np.intp] | None = None) -> Part:
    """The rows that a route answers; `rows` None: all."""
    route, batch = share.route, whole if rows is None else whole.take(rows)
    return Part(
        route.name, route.plan.pipeline, whole, batch, rows, _by_rule(share, len(batch.rows.request_ids))
    )


def _by_rule(share: Share, count: int) -> Mask | None:
    """The rows of a share that a rule sent there; None: none."""
    if share.chosen is None:
        return np.ones(count, bool) if share.choices[0].rule else None
    if not any(choice.rule for choice in share.choices):
        return None
    return np.array([bool(choice.rule) for choice in share.choices])[share.chosen]


def _decisions(served: Served, share: Share, result: RouteResult) -> list[Decision]:
    """What rows of the share are told, one for each of its choices."""
    route, ran = share.route, share.route.plan.pipeline
    return [
        Decision(
            ran.version, ran.revision, route.name, result.models, served.release, choice.rule, choice.sticky
        )
        for choice in share.choices
    ]
