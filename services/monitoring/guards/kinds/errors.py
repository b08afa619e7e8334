"""Units that lost a row by a fault of ours."""

from __future__ import annotations

from headrace.analysis import Count
from services.monitoring.guards.guard import Increment
from services.monitoring.guards.rates import RateGuard


class Errors(RateGuard):
    """By the routers' ticks, which come each second."""

    def tick(self, more: Increment) -> None:
        """See Guard."""
        if more.drawn:
            self.observe(more.share, *(Count(of.rows, of.errors) for of in (more.live, more.canary)))


make = Errors
