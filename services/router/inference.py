"""One inference: find the pipeline, choose routes, run them, join their answers."""

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
from services.router.routes.route import RouteChooser, Share
from services.router.routes.run import Outcome, Run


@dataclass(frozen=True, slots=True)
class Answer:
    """The outputs and annotations of all rows, and the routes (`@decision` is the index, if several)."""

    batch: Batch
    fallbacks: Sequence[str]
    decisions: Sequence[Decision]


class Inferring:
    """Runs batches. `refresh`: reads changed documents now. `clock`: monotonic seconds."""

    def __init__(
        self,
        pipelines: Pipelines,
        refresh: Callable[[], Awaitable[None]],
        chooser: RouteChooser,
        meter: Meter,
        clock: Callable[[], float],
    ) -> None:
        self._pipelines = pipelines
        self._refresh = refresh
        self._chooser = chooser
        self._meter = meter
        self._clock = clock

    async def infer(self, pipeline: str, version: int, batch: Batch) -> Answer:
        """Runs a pipeline over a batch with one column per input; `version` 0 = the current one.

        Rows that fail carry a row error. Raises Fault NOT_FOUND for a pipeline or version that is not served,
        INVALID_ARGUMENT for a batch without an input of the pipeline.
        """
        served = await self._find(pipeline, version)
        shares = self._chooser.choose(served.routes, batch)
        if len(shares) == 1:
            outcomes = [await self._run(shares[0], batch)]
            outcome = outcomes[0]
        else:
            parts = [(s, s.rows) for s in shares if s.rows is not None]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._run(share, batch.take(rows))) for share, rows in parts]
            outcomes = [t.result() for t in tasks]
            outcome = join(outcomes, [rows for _, rows in parts])
        decisions = [_decision(served, s, o) for s, o in zip(shares, outcomes, strict=True)]
        return Answer(outcome.batch, outcome.fallbacks, decisions)

    async def _find(self, pipeline: str, version: int) -> Served:
        try:
            return self._pipelines.find(pipeline, version)
        except Fault:
            # The door may have read a changed document before us.
            await self._refresh()
            return self._pipelines.find(pipeline, version)

    async def _run(self, share: Share, batch: Batch) -> Outcome:
        return await Run(share.route, batch, self._clock, self._meter).run()


def _decision(served: Served, share: Share, outcome: Outcome) -> Decision:
    return Decision(served.pipeline.version, served.pipeline.revision, share.route.name, outcome.models)
