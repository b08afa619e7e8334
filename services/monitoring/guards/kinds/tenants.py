"""Whether the canary fails, is slow or answers otherwise for a tenant: the largest among the live arm's first rows."""

from __future__ import annotations

from services.monitoring.guards.answers import SEGMENTS, TENANTS
from services.monitoring.guards.parts import PartsGuard


class Tenants(PartsGuard):
    """As segments."""

    parts, beside, missing = (
        slice(1 + SEGMENTS, 1 + SEGMENTS + TENANTS),
        ("failed", "slow"),
        "no answer was seen",
    )


make = Tenants
