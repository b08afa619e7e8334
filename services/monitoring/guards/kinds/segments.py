"""Whether the canary fails, is slow or answers otherwise in a segment that the document declares (`segments`)."""

from __future__ import annotations

from services.monitoring.guards.answers import SEGMENTS
from services.monitoring.guards.parts import PartsGuard


class Segments(PartsGuard):
    """The values of inputs with choices."""

    parts, beside, missing = (
        slice(1, 1 + SEGMENTS),
        ("failed", "slow"),
        "no segments are declared, or no answer was seen",
    )


make = Segments
