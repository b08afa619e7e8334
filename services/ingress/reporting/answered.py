"""Reports the highest number of an event that replies of each router had. So monitoring knows of events of a router that was
killed before it could send them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from headrace.hop.errors import Fault

# Processes of routers that are remembered, and for how long after their last reply.
_MOST, _REMEMBERED_S = 64, 600.0
_CALL_S = 2.0


class AnsweredEvents:
    """`highest`: of each stream's epoch, written by who reads replies. `report`: sends numbers by epoch until a
    deadline, or raises Fault. `clock`: monotonic seconds."""

    def __init__(
        self,
        highest: dict[int, int],
        report: Callable[[Mapping[int, int], float], Awaitable[None]],
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._highest = highest
        self._report = report
        self._clock = clock
        self._log = log
        # What was seen of each at the last look, and when it became so.
        self._seen: dict[int, tuple[int, float]] = {}
        self._unsent = self._failing = False

    async def report(self) -> None:
        """Reports once, if something came since the last report that arrived."""
        now = self._clock()
        for epoch, sequence in self._highest.items():
            if self._seen.get(epoch, (0, now))[0] != sequence:
                self._seen.pop(epoch, None)
                self._seen[epoch] = sequence, now
                self._unsent = True
        # The dictionary's order is that of their last replies.
        for epoch, (_, when) in list(self._seen.items()):
            if len(self._seen) > _MOST or now - when > _REMEMBERED_S:
                del self._seen[epoch], self._highest[epoch]
        if not self._unsent:
            return
        try:
            await self._report({epoch: number for epoch, (number, _) in self._seen.items()}, now + _CALL_S)
        except Fault as fault:
            if not self._failing:
                self._log.warning("what routers answered can't be reported", error=fault.message)
            self._failing = True
            return
        self._unsent = self._failing = False
