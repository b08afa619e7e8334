"""Batches whose rows cost more time of the services than nearly all of the live arm."""

from __future__ import annotations

from headrace.analysis import Count
from services.monitoring.guards.answers import Answers
from services.monitoring.guards.rates import RateGuard

# An arm with few rows has small batches, and in a small batch a row costs more, whatever the version.
_COMPARABLE = (0.4, 0.6)


class Cost(RateGuard):
    """Beyond the p95 of the live arm's first batches, while both arms have about as many rows."""

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        if _COMPARABLE[0] <= share <= _COMPARABLE[1]:
            self.observe(share, *(Count(*of.costly.tolist()) for of in (live, canary)))

    @property
    def unknown(self) -> str:
        """See RateGuard."""
        return (
            "" if self.canary.rows else "what a row costs shows only where both arms have about as many rows"
        )


make = Cost
