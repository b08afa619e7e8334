"""The periodic work of accuracy: stores predictions, judges them, sets the gauges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.monitoring.accuracy.figures import VersionFigures, figures
from services.monitoring.accuracy.metrics import AccuracyMetrics
from services.monitoring.accuracy.observer import PredictionObserver
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import StorageError

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class AccuracyKeeper:
    """`wall`: seconds since 1970."""

    settings: AccuracySettings
    observer: PredictionObserver
    store: AccuracyStore
    facts: Facts
    metrics: AccuracyMetrics
    wall: Callable[[], float]

    async def step(self) -> None:
        """Stores and judges what was gathered. Raises StorageError."""
        taken = self.observer.taken()
        if not taken:
            return
        try:
            new = await self.facts.run(self.store.add, taken, self.wall())
        except StorageError:
            self.observer.put_back(taken)
            raise
        self.metrics.predictions.inc(new)

    async def figures(self, pipeline: str = "") -> list[VersionFigures]:
        """Of a pipeline's versions, or of all. Raises StorageError."""
        now, settings = self.wall(), self.settings
        found = await self.facts.run(self.store.windows, now - settings.days * _DAY_S, pipeline)
        return figures(found, settings.window_s, settings.least_coverage, now)

    async def look(self) -> None:
        """Sets the gauges. Raises StorageError."""
        self.metrics.wanted.set(self.settings.least_coverage)
        self.metrics.looked(await self.figures())

    async def sweep(self) -> None:
        """Removes what is too old. Raises StorageError."""
        oldest = self.wall() - self.settings.days * _DAY_S
        await self.facts.run(self.store.sweep, oldest)
