"""Whether a run is worth a thread: handing over costs 100 µs, a long run on the loop costs everyone."""

from __future__ import annotations

_HYSTERESIS = 1.25


class Placement:
    """Decides by the expected run time, with hysteresis around `limit` seconds lest it flutter."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._inline = False
        self._barred = False

    def inline(self, expected: float) -> bool:
        """Whether the next run (expected seconds, 0 = unknown) goes on the event loop itself."""
        if not expected or self._barred:
            return False
        if self._inline and expected > self._limit * _HYSTERESIS:
            self._inline = False
        elif not self._inline and expected < self._limit / _HYSTERESIS:
            self._inline = True
        return self._inline

    def bar(self) -> None:
        """A run was expected to be short and hung: never again on the loop."""
        self._barred = True
