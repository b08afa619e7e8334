"""Guards of answers that are bad by themselves, whatever the others are."""

from __future__ import annotations

from headrace.analysis import Count
from services.monitoring.guards.answers import ROWS, Answers
from services.monitoring.guards.rates import RateGuard


class RowsGuard(RateGuard):
    """Counts what the events of answers say of it."""

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        kind = ROWS.index(self.setting.name)
        self.observe(share, *(Count(*of.bad[kind].tolist()) for of in (live, canary)))
