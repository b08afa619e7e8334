"""Requests that are likely to come in a moment: a group waits for them, since two groups cost more than one of both.

- Requests that are allowed and whose messages are still on their way (not on the lane: there both come at once).
- Callers that were answered a moment ago. Those that ask again as soon as they are answered come back together. Without the wait,
  the first of them would leave in a small group, and the others in another one behind it.

With 64 callers in one process groups of 44 to 51 rows leave instead of 24 (load/RESULTS.md).
"""

from __future__ import annotations

from collections import deque

# What does not come in this time is not waited for any more.
SOON_S = 0.004
# Nor is the message of a tenant of whose messages, of late, less than this share came in that time: it would delay others.
_PROMPT = 0.5
# Weight of the newest message.
_WEIGHT = 0.05
# Callers are waited for while, of late, at least this share of those who were answered came back in that time.
_LIKELY = 0.8
# Weight of the newest of them.
_WEIGHT_BACK = 0.02
# The last of them are not waited for.
_FEW = 0.06


class Arrival:
    """A message on its way. `began`: monotonic seconds."""

    __slots__ = ("began", "tenant")

    def __init__(self, tenant: str, began: float) -> None:
        self.tenant = tenant
        self.began = began


class Arrivals:
    """What is likely to come to one event loop. `now`: monotonic seconds."""

    def __init__(self) -> None:
        # The oldest first; only those that are waited for.
        self._coming: dict[Arrival, None] = {}
        # The share of a tenant's messages that came soon, if not all do.
        self._prompt: dict[str, float] = {}
        # When callers were answered that have not come back yet, and how many they were after the last answer.
        self._answered: deque[float] = deque()
        self._most = 0
        self._back = 0.0

    def came(self) -> None:
        """A request is here. For one whose message is still on its way: `begin`."""
        if self._answered:
            self._answered.popleft()
            self._back += _WEIGHT_BACK * (1 - self._back)

    def begin(self, tenant: str, now: float) -> Arrival:
        """The headers of a request are here; `end` must follow."""
        self.came()
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

    def answered(self, now: float) -> None:
        """A caller is answered that may ask again."""
        self._forget(now)
        self._answered.append(now)
        self._most = len(self._answered)

    def soon(self, now: float) -> bool:
        """Whether a request is likely to come in a moment."""
        while self._coming:
            oldest = next(iter(self._coming))
            if oldest.began > now - SOON_S:
                return True
            del self._coming[oldest]
        self._forget(now)
        return self._back >= _LIKELY and len(self._answered) > self._most * _FEW

    def _forget(self, now: float) -> None:
        while self._answered and self._answered[0] <= now - SOON_S:
            self._answered.popleft()
            self._back -= _WEIGHT_BACK * self._back
