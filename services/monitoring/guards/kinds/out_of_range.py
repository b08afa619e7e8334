"""Units with an output out of the range that the document declares (`range` of an output), or far out of that of the baseline."""

from __future__ import annotations

from services.monitoring.guards.answers import Answers
from services.monitoring.guards.rows import RowsGuard


class OutOfRange(RowsGuard):
    """Knows nothing without a range."""

    _ranged = False

    def answered(self, share: float, live: Answers, canary: Answers) -> None:
        """See Guard."""
        self._ranged = self._ranged or canary.ranged
        super().answered(share, live, canary)

    @property
    def unknown(self) -> str:
        """See RateGuard."""
        return "" if self._ranged else "no range of an output is declared, and no baseline has one"


make = OutOfRange
