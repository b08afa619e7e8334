"""The explanations that monitoring keeps, as the page of one request shows them."""

from __future__ import annotations

from services.monitoring.console.ports import Contribution, Explanation
from services.monitoring.explanations.explanations import Explanations


class KeptExplanations:
    """Implements `ports.Explanations`."""

    def __init__(self, kept: Explanations) -> None:
        self._kept = kept

    async def of(self, event_id: str) -> Explanation | None:
        """See `ports.Explanations`. Raises StorageError."""
        found = await self._kept.of(bytes.fromhex(event_id))
        if found is None:
            return None
        error = max((column.standard_error for column in found.columns), default=0.0)
        contributions = [Contribution(c.column, c.value, c.contribution) for c in found.columns]
        return Explanation(found.base, found.value, error, contributions)
