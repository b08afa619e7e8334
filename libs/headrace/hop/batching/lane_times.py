"""What the times of a lane's calls say: two state machines.

`Outlasting`: which calls last far longer than usual, so that further ones may leave beside them. While a call is out, rows wait
to form a batch. If it hangs, or waits for something slow that only some of its rows need, all later rows would wait as long. So a
call that lasts several times as long as its lane's calls usually do is not counted any more.

`Returning`: whether it pays to wait a moment for those whom a call has just answered. Callers that ask again as soon as they are
answered fall into two groups: while one's call is out the other gathers, and each call carries half of what it could. A moment's
wait behind an answer brings the groups together. It pays only where most come back within a part of the time that the call took;
where requests come whenever they like, only that part of them would.
"""

from __future__ import annotations

import math

# A call outlasts the others after so many times what is usual, but not before so many seconds.
_TIMES = 4.0
_LEAST_S = 0.005
# What is usual is the shortest of late: each call that took longer multiplies it by this. So it follows a load under which
# all calls take longer, and stays low while even one in ten is quick.
_RISE = 1.02

# A call waits for no longer than this part of what the last one took, and for no longer than this (seconds).
_PART = 0.75
_MOST_S = 0.012
# So many of those who were answered must have come back in that time, of late (requests that come whenever they like: _PART).
_LIKELY = 0.85
# Weight of the newest observation.
_WEIGHT = 0.2
# Of those who are expected: the last of them are not waited for.
_ENOUGH = 0.95


class CallInFlight:
    """One call. `began`: monotonic seconds; `outlasts`: whether it is not counted any more."""

    __slots__ = ("began", "lane", "outlasts")

    def __init__(self, lane: Outlasting, began: float) -> None:
        self.lane = lane
        self.began = began
        self.outlasts = False


class Outlasting:
    """The calls of one lane. `most`: as many may be passed over at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        # In the order in which they began.
        self._calls: dict[CallInFlight, None] = {}
        self._outlasting = 0
        # Seconds; inf: no call has ended yet.
        self._usual = math.inf

    def began(self, now: float) -> CallInFlight:
        """A call leaves."""
        call = CallInFlight(self, now)
        self._calls[call] = None
        return call

    def ended(self, call: CallInFlight, now: float) -> None:
        """It is over, however it ended."""
        del self._calls[call]
        if call.outlasts:
            self._outlasting -= 1
        took, usual = now - call.began, self._usual * _RISE
        self._usual = took if took < usual else usual

    def due(self) -> float | None:
        """When the next call outlasts the others; None: none will."""
        if self._usual == math.inf or self._outlasting >= self._most:
            return None
        limit = max(_TIMES * self._usual, _LEAST_S)
        return next((call.began + limit for call in self._calls if not call.outlasts), None)

    def pass_over(self, now: float) -> int:
        """Takes calls that outlast the others out of the count; returns how many there are more."""
        passed = 0
        while (due := self.due()) is not None and due <= now:
            next(call for call in self._calls if not call.outlasts).outlasts = True
            self._outlasting += 1
            passed += 1
        return passed


class Returning:
    """Of one lane, one call after another. Times are monotonic seconds, sizes rows."""

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
