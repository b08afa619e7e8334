"""Explanations for an event loop: stored as they come, shown with their events, compared over groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from services.monitoring.database.facts import Facts
from services.monitoring.events.reception import Reception
from services.monitoring.events.values import Query
from services.monitoring.explanations import bias, from_events
from services.monitoring.explanations.metrics import ExplanationMetrics
from services.monitoring.explanations.records import (
    ColumnContribution,
    Coverage,
    Explanation,
    ShownExplanation,
)
from services.monitoring.explanations.settings import ExplanationStorage
from services.monitoring.explanations.store import ExplanationStore
from services.monitoring.explanations.unexplained import Demand, MissingExplanations, Unexplained
from services.monitoring.outcomes.records import WRONG, StorageError
from services.monitoring.outcomes.store import OutcomeStore

_DAY_S = 86_400.0
# More pipelines than anybody has: demands and labels of metrics are bounded by it.
_MOST_PIPELINES = 200


class Explanations:
    """`reception`: has the events; `facts` and `outcomes`: what became known of predictions. `wall`: seconds since 1970."""

    def __init__(
        self,
        store: ExplanationStore,
        reception: Reception,
        facts: Facts,
        outcomes: OutcomeStore,
        metrics: ExplanationMetrics,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._reception = reception
        self._facts = facts
        self._outcomes = outcomes
        self._metrics = metrics
        self._wall = wall
        self._missing = MissingExplanations(store, wall)
        self._lock = asyncio.Lock()
        # What routers have demanded, by pipeline and revision; and the pipelines that have metrics.
        self._demands: dict[tuple[str, str], Demand] = {}
        self._pipelines: set[str] = set()

    async def record(self, explanations: Sequence[Explanation], report_id: bytes) -> tuple[int, bool]:
        """Stores explanations. Returns how many are new, and whether the report of this id came for the first time (an empty id:
        always). Raises StorageError: nothing was done."""
        new, first = await self._facts.run(self._store.add, explanations, report_id, self._wall())
        for pipeline, count in new.items():
            if self._labelled(pipeline):
                self._metrics.stored.labels(pipeline).inc(count)
        return sum(new.values()), first

    async def next(self, demands: Sequence[Demand]) -> list[Unexplained]:
        """Stored predictions that are to be explained. Raises StorageError."""
        demands = demands[:_MOST_PIPELINES]
        for demand in demands:
            # The dictionary's order is that of their last demands.
            self._demands.pop((demand.pipeline, demand.revision), None)
            self._demands[demand.pipeline, demand.revision] = demand
        for old in list(self._demands)[:-_MOST_PIPELINES]:
            del self._demands[old]
        async with self._lock:
            return await self._reception.over(lambda store: self._missing.next(store, demands)) or []

    async def of(self, prediction_id: bytes) -> ShownExplanation | None:
        """The explanation of a prediction with the values of its columns; None: there is none, or its event is gone. Raises
        StorageError."""
        found = await self._facts.run(self._store.find, prediction_id)
        if found is None:
            return None
        events = (await self._reception.find(Query(event_id=prediction_id, limit=1))).events
        if not events:
            return None
        explanation, stored = found
        values = {**events[0]["inputs"], **events[0]["features"]}
        columns = [
            ColumnContribution(name, values.get(name), added, error, source)
            for name, added, error, source in zip(
                explanation.columns,
                explanation.contributions,
                explanation.errors,
                explanation.sources,
                strict=True,
            )
        ]
        columns.sort(key=lambda c: -abs(c.contribution))
        return ShownExplanation(explanation, columns, stored)

    async def coverage(self) -> list[Coverage]:
        """Of each pipeline that demands explanations and has predictions. Raises StorageError."""
        demands = list(self._demands.values())
        async with self._lock:
            return await self._reception.over(lambda store: self._missing.coverage(store, demands)) or []

    async def slices(
        self, wanted: from_events.Wanted, least: int
    ) -> tuple[list[bias.Slice], bias.Predictions, str]:
        """What the groups of a column got; the predictions; the output. Raises NoGroupsError, StorageError, OSError."""
        found = await self._reception.over(lambda store: from_events.predictions(store, wanted))
        if found is None:
            raise StorageError("no events are kept here")
        predictions, output = found
        since = wanted.first_us / 1e6
        names = {WRONG, *predictions.labels}
        outcomes = await self._facts.run(self._outcomes.named, sorted(names), since)
        added = await self._facts.run(
            self._store.contributions, wanted.pipeline, output, wanted.column, since
        )
        contributions = np.array([added.get(i, np.nan) for i in predictions.ids], np.float64)
        wrong = bias.wrong_of(predictions, outcomes, WRONG)
        return bias.slices(predictions, wrong, contributions, least), predictions, output

    async def sweep(self, settings: ExplanationStorage) -> None:
        """Removes what is too old or too much, and measures the coverage. Raises StorageError."""
        oldest = self._wall() - settings.days * _DAY_S
        self._metrics.swept.inc(await self._facts.run(self._store.sweep, oldest, settings.max_rows))
        for found in await self.coverage():
            if self._labelled(found.pipeline):
                self._metrics.coverage.labels(found.pipeline).set(found.share)

    def _labelled(self, pipeline: str) -> bool:
        """Whether it may have metrics."""
        if len(self._pipelines) < _MOST_PIPELINES:
            self._pipelines.add(pipeline)
        return pipeline in self._pipelines
