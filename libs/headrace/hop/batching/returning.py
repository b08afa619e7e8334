"""Whether it pays to wait a moment for those whom a call has just answered: a state machine.

Callers that ask again as soon as they are answered fall into two groups: while one's call is out the other gathers, and each
call carries half of what it could. A moment's wait behind an answer brings the groups together. It pays only where most come
back within a part of the time that the call took; where requests come whenever they like, only that part of them would.
"""

from __future__ import annotations

# A call waits for no longer than this part of what the last one took, and for no longer than this (seconds).
_PART = 0.75
_MOST_S = 0.012
# So many of those who were answered must have come back in that time, of late (requests that come whenever they like: _PART).
_LIKELY = 0.85
# Weight of the newest observation.
_WEIGHT = 0.2
# Of those who are expected: the last of them are not waited for.
_ENOUGH = 0.95


class Returning:
    """Of one lane, one call after another. Times are monotonic seconds, sizes rows."""

    __slots__ = ("_came", "_rows", "_share", "_until")

    def __init__(self) -> None:
        self._rows, self._came = 0, 0
        self._share = 0.0
        self._until = 0.0

    def ended(self, now: float, took: float, rows: int) -> None:
        """A call of so many rows has ended."""
        if self._rows:
            self._share += _WEIGHT * (min(self._came / self._rows, 1.0) - self._share)
        self._rows, self._came = rows, 0
        self._until = now + min(took * _PART, _MOST_S)

    def came(self, now: float, rows: int) -> None:
        """So many rows have come."""
        if now < self._until:
            self._came += rows

    def awaited(self, now: float) -> float:
        """Seconds that the next call should wait for more; 0.0: none."""
        if self._share < _LIKELY or self._came >= _ENOUGH * self._share * self._rows:
            return 0.0
        return max(self._until - now, 0.0)
