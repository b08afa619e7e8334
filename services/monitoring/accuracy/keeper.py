"""The periodic work of accuracy: stores predictions, judges them, sets the gauges."""

from __future__ import annotations

from collections.abc import Callable

from services.monitoring.accuracy.figures import VersionFigures, figures
from services.monitoring.accuracy.metrics import AccuracyMetrics
from services.monitoring.accuracy.observer import PredictionObserver
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import StorageError

_DAY_S = 86_400.0


class AccuracyKeeper:
    """`wall`: seconds since 1970."""

    def __init__(
        self,
        settings: AccuracySettings,
        observer: PredictionObserver,
        store: AccuracyStore,
        facts: Facts,
        metrics: AccuracyMetrics,
        wall: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._store = store
        self._facts = facts
        self._metrics = metrics
        self._wall = wall

    async def step(self) -> None:
        """Stores and judges what was gathered. Raises StorageError."""
        taken = self._observer.taken()
        if not taken:
            return
        try:
            new = await self._facts.run(self._store.add, taken, self._wall())
        except StorageError:
            self._observer.put_back(taken)
            raise
        self._metrics.predictions.inc(new)

    async def figures(self, pipeline: str = "") -> list[VersionFigures]:
        """Of a pipeline's versions, or of all. Raises StorageError."""
        now, settings = self._wall(), self._settings
        found = await self._facts.run(self._store.windows, now - settings.days * _DAY_S, pipeline)
        return figures(found, settings.window_s, settings.least_coverage, now)

    async def look(self) -> None:
        """Sets the gauges. Raises StorageError."""
        self._metrics.wanted.set(self._settings.least_coverage)
        self._metrics.looked(await self.figures())

    async def sweep(self) -> None:
        """Removes what is too old. Raises StorageError."""
        oldest = self._wall() - self._settings.days * _DAY_S
        await self._facts.run(self._store.sweep, oldest)
