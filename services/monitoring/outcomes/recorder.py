"""The store for an event loop: calls wait for a thread; what could not be stored is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.monitoring.database.facts import Facts
from services.monitoring.metrics import Metrics
from services.monitoring.outcomes.records import Outcome, Recorded, StorageError
from services.monitoring.outcomes.store import OutcomeStore

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Recorder:
    """`wall`: seconds since 1970."""

    facts: Facts
    store: OutcomeStore
    metrics: Metrics
    wall: Callable[[], float]

    async def record(self, tenant: str, outcomes: Sequence[Outcome]) -> Recorded:
        """Stores all of them. Raises StorageError, OutcomeError: none was."""
        try:
            recorded = await self.facts.run(self.store.record, tenant, outcomes, self.wall())
        except StorageError:
            self.metrics.refused.inc(len(outcomes))
            raise
        self.metrics.outcomes.inc(recorded.new)
        self.metrics.unmatched.inc(recorded.unknown)
        self.metrics.repeated.inc(recorded.repeated)
        self.metrics.contradictions.inc(recorded.contradictory)
        return recorded

    async def sweep(self, days: float, max_rows: int) -> None:
        """Removes what is too old or too much. Raises StorageError."""
        oldest = self.wall() - days * _DAY_S
        self.metrics.swept.inc(await self.facts.run(self.store.sweep, oldest, max_rows))
