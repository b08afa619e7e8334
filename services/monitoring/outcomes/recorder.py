"""The store for an event loop: calls wait for a thread; what could not be stored is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.monitoring.database.facts import Facts
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.records import Outcome, Recorded, StorageError
from services.monitoring.outcomes.store import OutcomeStore

_DAY_S = 86_400.0


class Recorder:
    """`wall`: seconds since 1970."""

    def __init__(
        self, facts: Facts, store: OutcomeStore, metrics: Metrics, wall: Callable[[], float]
    ) -> None:
        self._facts = facts
        self._store = store
        self._metrics = metrics
        self._wall = wall

    async def record(self, tenant: str, outcomes: Sequence[Outcome]) -> Recorded:
        """Stores all of them. Raises StorageError, OutcomeError: none was."""
        try:
            recorded = await self._facts.run(self._store.record, tenant, outcomes, self._wall())
        except StorageError:
            self._metrics.refused.inc(len(outcomes))
            raise
        self._metrics.outcomes.inc(recorded.new)
        self._metrics.unmatched.inc(recorded.unknown)
        self._metrics.repeated.inc(recorded.repeated)
        self._metrics.contradictions.inc(recorded.contradictory)
        return recorded

    async def sweep(self, days: float, max_rows: int) -> None:
        """Removes what is too old or too much. Raises StorageError."""
        oldest = self._wall() - days * _DAY_S
        self._metrics.swept.inc(await self._facts.run(self._store.sweep, oldest, max_rows))
