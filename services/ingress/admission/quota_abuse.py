"""Who goes on calling far beyond a quota. One refusal is nothing special; a hundred in a minute are a security event. Pure."""

from __future__ import annotations

from collections.abc import Callable

_WINDOW_S = 60.0
# Refusals in a window from which on it is told, and again at ten times as many, and so on.
_FIRST = 100


class QuotaAbuse:
    """Counts refusals by tenant, in this process. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._window = -1
        self._refused: dict[str, int] = {}

    def refused(self, tenant: str, calls: int) -> int:
        """How many calls of the tenant were refused in this minute, each time that reaches 100, 1,000 and so on; 0: not now."""
        window = int(self._clock() / _WINDOW_S)
        if window != self._window:
            self._window, self._refused = window, {}
        before = self._refused.get(tenant, 0)
        count = self._refused[tenant] = before + calls
        return count if count >= _FIRST and len(str(count)) > len(str(max(before, _FIRST - 1))) else 0
