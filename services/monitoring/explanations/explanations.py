"""Explanations for an event loop: stored as they come, shown with their events, compared over groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

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
from services.monitoring.outcomes.records import WRONG, StorageError
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.ports import Log

_DAY_S, _SWEEP_S = 86_400.0, 60.0
# More pipelines than anybody has; labels of metrics are bounded by it.
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
        log: Log,
    ) -> None:
        self._store = store
        self._reception = reception
        self._facts = facts
        self._outcomes = outcomes
        self._metrics = metrics
        self._wall = wall
        self._log = log
        self._pipelines: set[str] = set()

    async def record(
        self, explanations: Sequence[Explanation], demanded: Mapping[str, int], counts_id: bytes
    ) -> tuple[int, bool]:
        """Stores explanations, and counts predictions that must be explained, those of one id once (an empty id: each time).
        Returns how many explanations are stored now, and whether it counted. Raises StorageError: nothing was done."""
        new, counted = await self._facts.run(self._store.add, explanations, demanded, counts_id, self._wall())
        if not counted:
            demanded = {}
        for pipeline in {*new, *demanded}:
            if pipeline not in self._pipelines and len(self._pipelines) >= _MOST_PIPELINES:
                continue
            self._pipelines.add(pipeline)
            self._metrics.demanded.labels(pipeline).inc(demanded.get(pipeline, 0))
            self._metrics.stored.labels(pipeline).inc(new.get(pipeline, 0))
        await self._measure()
        return sum(new.values()), counted

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
        """Of each pipeline that demands explanations. Raises StorageError."""
        return await self._facts.run(self._store.coverage)

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

    async def sweep_every(self, settings: ExplanationStorage) -> None:
        """Removes what is too old or too much, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            oldest = self._wall() - settings.days * _DAY_S
            try:
                self._metrics.swept.inc(await self._facts.run(self._store.sweep, oldest, settings.max_rows))
                await self._measure()
            except StorageError:
                continue  # said by the database
            except Exception as error:  # noqa: BLE001 - the loop must go on
                self._log.error("old explanations not removed", error=f"{type(error).__name__}: {error}")

    async def _measure(self) -> None:
        for found in await self.coverage():
            if found.pipeline in self._pipelines or len(self._pipelines) < _MOST_PIPELINES:
                self._pipelines.add(found.pipeline)
                self._metrics.coverage.labels(found.pipeline).set(found.share)
