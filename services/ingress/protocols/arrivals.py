"""Requests that are allowed and whose messages are still on their way: a group waits a moment for them.

Between the headers and the message of a request lies a trip to Envoy's thread and back. A group that leaves meanwhile costs as
much as one that takes them along. With 64 callers in one process groups of 58 rows leave instead of 28 (load/HISTORY.md).
"""

from __future__ import annotations

# A message that does not come in this time is not waited for any more.
SOON_S = 0.004
# Nor is one of a tenant of whose messages, of late, less than this share came in that time: it would delay others.
_PROMPT = 0.5
# Weight of the newest message.
_WEIGHT = 0.05


class Arrival:
    """A message on its way. `began`: monotonic seconds."""

    __slots__ = ("began", "tenant")

    def __init__(self, tenant: str, began: float) -> None:
        self.tenant = tenant
        self.began = began


class Arrivals:
    """The messages on their way to one event loop."""

    def __init__(self) -> None:
        # The oldest first; only those that are waited for.
        self._coming: dict[Arrival, None] = {}
        # The share of a tenant's messages that came soon, if not all do.
        self._prompt: dict[str, float] = {}

    def begin(self, tenant: str, now: float) -> Arrival:
        """The headers of a request are here; `end` must follow."""
        arrival = Arrival(tenant, now)
        if self._prompt.get(tenant, 1.0) >= _PROMPT:
            self._coming[arrival] = None
        return arrival

    def end(self, arrival: Arrival, now: float) -> None:
        """Its message is here, or will not come."""
        self._coming.pop(arrival, None)
        soon = now - arrival.began < SOON_S
        if not soon or arrival.tenant in self._prompt:
            share = self._prompt.get(arrival.tenant, 1.0)
            share += _WEIGHT * (soon - share)
            self._prompt[arrival.tenant] = share
            if share > 1 - _WEIGHT * _WEIGHT:
                del self._prompt[arrival.tenant]

    def soon(self, now: float) -> bool:
        """Whether a message is likely to come in a moment."""
        while self._coming:
            oldest = next(iter(self._coming))
            if oldest.began > now - SOON_S:
                return True
            del self._coming[oldest]
        return False
