"""Whether the canary is worse, or another, for one of the tenants with the most rows."""

from __future__ import annotations

from services.monitoring.guards.answers import SEGMENTS, TENANTS
from services.monitoring.guards.kinds.segments import Segments


class Tenants(Segments):
    """As segments: the largest tenants among the first rows of the live arm."""

    first, most, what = SEGMENTS, TENANTS, "no tenant was seen"


make = Tenants
