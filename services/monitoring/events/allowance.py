"""How many rows are recorded: a bucket of tokens, filled by the clock of the events."""

from __future__ import annotations


class Allowance:
    """`per_s` rows a second for long, `burst` at once. A batch of more rows than are left passes, and the next ones wait for it:
    otherwise a pipeline whose batches are larger than `burst` would never be recorded."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._left = self._burst
        self._at = 0.0

    def take(self, rows: int, now: float) -> bool:
        """Whether these may be recorded; `now` in seconds of any clock."""
        # A clock that was set back gives nothing, and takes nothing.
        self._left = min(self._burst, self._left + max(now - self._at, 0.0) * self._per_s)
        self._at = now
        if self._left <= 0:
            return False
        self._left -= rows
        return True
