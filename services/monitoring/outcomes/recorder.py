"""The store for an event loop: calls wait for a thread; what could not be stored is counted, exposures wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from headrace.ticks import Exposure
from services.monitoring.database.facts import Facts
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.records import Outcome, StorageError
from services.monitoring.outcomes.store import OutcomeStore
from services.monitoring.ports import Log

_DAY_S, _SWEEP_S = 86_400.0, 60.0
# Exposures that wait while they can't be stored; then the oldest are lost.
_WAITING = 50_000


class Recorder:
    """`wall`: seconds since 1970."""

    def __init__(
        self, facts: Facts, store: OutcomeStore, metrics: Metrics, log: Log, wall: Callable[[], float]
    ) -> None:
        self._facts = facts
        self._store = store
        self._metrics = metrics
        self._log = log
        self._wall = wall
        self._waiting: list[Exposure] = []

    async def record(self, tenant: str, outcomes: Sequence[Outcome]) -> None:
        """Stores all of them. Raises StorageError, OutcomeError: none was."""
        try:
            recorded = await self._facts.run(self._store.record, tenant, outcomes, self._wall())
        except StorageError:
            self._metrics.refused.inc(len(outcomes))
            raise
        self._metrics.outcomes.inc(recorded.new)
        self._metrics.unmatched.inc(recorded.unmatched)
        self._metrics.repeated.inc(recorded.repeated)
        self._metrics.contradictions.inc(recorded.contradictory)

    async def expose(self, exposures: Sequence[Exposure]) -> None:
        """Stores them, or keeps them until it can be done."""
        self._waiting += exposures
        lost = len(self._waiting) - _WAITING
        if lost > 0:
            del self._waiting[:lost]
            self._metrics.lost_exposures.inc(lost)
        if not self._waiting:
            return
        taken, self._waiting = self._waiting, []
        try:
            self._metrics.exposures.inc(await self._facts.run(self._store.expose, taken, self._wall()))
        except StorageError:
            self._waiting = taken + self._waiting

    async def sweep_always(self, days: float, max_rows: int) -> None:
        """Removes what is too old or too much, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep(days, max_rows)
            except StorageError:
                continue  # said by the database
            except Exception as error:  # noqa: BLE001 - the loop must go on
                self._log.error("old outcomes not removed", error=f"{type(error).__name__}: {error}")

    async def sweep(self, days: float, max_rows: int) -> None:
        """Removes what is too old or too much. Raises StorageError."""
        oldest = self._wall() - days * _DAY_S
        self._metrics.swept.inc(await self._facts.run(self._store.sweep, oldest, max_rows))
