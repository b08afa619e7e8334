"""Predictions that an outcome contradicts."""

from __future__ import annotations

from headrace.analysis import Count
from services.monitoring.guards.guard import Increment
from services.monitoring.guards.rates import RateGuard


class Wrong(RateGuard):
    """By the outcomes of rows that are known to have been drawn for an arm."""

    def tick(self, more: Increment) -> None:
        """See Guard."""
        self.observe(more.share, *(Count(of.labelled, of.wrong) for of in (more.live, more.canary)))


make = Wrong
