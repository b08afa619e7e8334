"""How far routers have answered, as doors say it: events up to there that never come are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.monitoring.events.reception import Reception
from services.monitoring.ports import Log

# A router sends what it has for so long. What is only on its way is no gap.
WAIT_S = 10.0
_LOOK_S = 1.0
# Streams that wait; the oldest go.
_MOST = 4096


class Answered:
    """`clock`: monotonic seconds."""

    def __init__(self, reception: Reception, clock: Callable[[], float], log: Log) -> None:
        self._reception = reception
        self._clock = clock
        self._log = log
        # Epoch of a stream → when its number is due, that number, and the highest since.
        self._waiting: dict[int, tuple[float, int, int]] = {}

    def heard(self, epoch: int, sequence: int) -> None:
        """A door has seen this number of the stream."""
        due, first, highest = self._waiting.get(epoch, (self._clock() + WAIT_S, sequence, 0))
        self._waiting[epoch] = due, first, max(highest, sequence)
        if len(self._waiting) > _MOST:
            del self._waiting[next(iter(self._waiting))]

    async def settle(self) -> None:
        """Counts what is due. Raises StorageError."""
        now = self._clock()
        for epoch, (due, sequence, highest) in list(self._waiting.items()):
            if due > now:
                continue
            await self._reception.take("", epoch, sequence, [], durable=False)
            if highest > sequence:
                self._waiting[epoch] = now + WAIT_S, highest, highest
            else:
                del self._waiting[epoch]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.settle()
            except Exception as error:  # noqa: BLE001 - the loop must go on
                self._log.error("answered events not counted", error=f"{type(error).__name__}: {error}")
