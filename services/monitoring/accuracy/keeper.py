"""The background task of accuracy: stores predictions, judges them, sets the gauges. It survives whatever fails in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.monitoring.accuracy.figures import VersionFigures, figures
from services.monitoring.accuracy.metrics import AccuracyMetrics
from services.monitoring.accuracy.observer import PredictionObserver
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.accuracy.store import AccuracyStore
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

_STEP_S = 1.0
_LOOK_S = 10.0
_SWEEP_S = 60.0
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
        log: Log,
        wall: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._store = store
        self._facts = facts
        self._metrics = metrics
        self._log = log
        self._wall = wall

    async def run(self) -> None:
        """Until cancelled."""
        since_look, since_sweep = _LOOK_S, 0.0
        while True:
            await asyncio.sleep(_STEP_S)
            since_look, since_sweep = since_look + _STEP_S, since_sweep + _STEP_S
            await self._tried(self.step)
            if since_look >= _LOOK_S:
                since_look = 0.0
                await self._tried(self.look)
            if since_sweep >= _SWEEP_S:
                since_sweep = 0.0
                await self._tried(self.sweep)

    async def step(self) -> None:
        """Stores what was gathered, and judges by what came since. Raises StorageError."""
        taken = self._observer.taken()
        if taken:
            try:
                new = await self._facts.run(self._store.add, taken, self._wall())
            except StorageError:
                self._observer.put_back(taken)
                raise
            self._metrics.predictions.inc(new)
        while await self._facts.run(self._store.follow):
            pass

    async def last_step(self) -> None:
        """Before the process ends. Raises nothing."""
        await self._tried(self.step)

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

    async def _tried(self, what: Callable[[], Awaitable[Any]]) -> None:
        try:
            await what()
        except StorageError:
            return  # said by the database
        except Exception as error:  # noqa: BLE001 - the loop must go on
            self._log.error("accuracy could not be told", error=f"{type(error).__name__}: {error}")
