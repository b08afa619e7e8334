"""Tenants that require encryption at rest are refused where nobody attests it, or not any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.documents.catalog import Tenant


class EncryptionGuard:
    """`until`: the last day (UTC) for which it is attested; None: nobody does. `wall`: seconds since 1970."""

    def __init__(self, until: date | None, wall: Callable[[], float]) -> None:
        self._until = until
        self._wall = wall

    def check(self, tenant: Tenant) -> None:
        """For a tenant that requires it. Raises Fault FAILED_PRECONDITION: what it sends may not be stored here."""
        if self._until is None or datetime.fromtimestamp(self._wall(), UTC).date() > self._until:
            raise Fault(
                Code.FAILED_PRECONDITION,
                Reason.REASON_ENCRYPTION_REQUIRED,
                f"tenant {tenant.name} requires encryption at rest, which the operators do not attest for today",
                metadata={"tenant": tenant.name},
            )
