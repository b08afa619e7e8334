"""How far a tenant may run ahead of the others that wait, whatever the deadlines say."""

from __future__ import annotations

from collections.abc import Collection


class Shares:
    """Rows that each waiting tenant has had while others waited, too.

    Deadlines decide who goes first as long as nobody is more than `lead` rows ahead of the tenant that has
    had least. So two tenants that always have rows waiting never drift apart by more than `lead` and one run.
    """

    def __init__(self, lead: int) -> None:
        self._lead = lead
        self._had: dict[str, int] = {}

    def waiting(self, tenants: Collection[str]) -> None:
        """These are all who wait. Whoever is new begins with the least that another has had: idling saves nothing."""
        had = self._had
        least = min((had[t] for t in tenants if t in had), default=0)
        self._had = {t: max(had.get(t, least) - least, 0) for t in tenants}

    def room(self, tenant: str) -> int:
        """Rows that the tenant may have before it must let others go first; 0 or less: none."""
        return self._lead + min(self._had.values()) - self._had[tenant]

    def took(self, tenant: str, rows: int) -> None:
        """The tenant gets that many rows run."""
        self._had[tenant] += rows

    def forget(self) -> None:
        """Nobody competes any more."""
        self._had.clear()
