"""Asks a replica whose breaker is open whether it answers at all, so that no call has to find out that it does not.

A probe is a real call, and where calls carry batches it makes many wait: all that are in it, and all that gather
behind it. If a replica hangs (stopped, deadlocked, behind a broken network), each probe costs them the whole of their
time. A question of ours costs nobody anything; as long as it stays unanswered, the breaker stays open.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from typing import Protocol

from headrace.hop.resilience.breaker import Breaker

# How many times a replica that refuses at once is asked in one round.
_TIMES = 5
# The last answer comes before the breaker would be half open.
_MARGIN_S = 0.02


class Asked(Protocol):
    """Who can be asked: a transport."""

    async def answers(self, within_s: float) -> bool:
        """Whether the other side answers within so many seconds and takes calls. Does not raise."""
        ...


class Asking:
    """Asks one replica, in a task that is there only while its breaker is open."""

    __slots__ = ("_asked", "_breaker", "_task")

    def __init__(self, breaker: Breaker, asked: Asked) -> None:
        self._breaker = breaker
        self._asked = asked
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Asks until the breaker is no longer open. Costs next to nothing if it is not, or is asked for already."""
        if self._breaker.tripped and (self._task is None or self._task.done()):
            # An empty context: it belongs to no call, so to nobody's span.
            self._task = asyncio.get_running_loop().create_task(self._ask(), context=Context())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while left := self._breaker.retry_in(time.monotonic()):
            # In the second half of the rest that it is given: the longer that is, the more patient the question.
            await asyncio.sleep(left / 2)
            if await self._one_round(time.monotonic() + left / 2 - _MARGIN_S, left / 2 / _TIMES):
                return
            self._breaker.unanswered(time.monotonic())

    async def _one_round(self, end: float, pause_s: float) -> bool:
        while (left := end - time.monotonic()) > 0:
            if await self._asked.answers(left):
                return True
            # A process that is being restarted refuses at once, and may be back in a moment.
            await asyncio.sleep(min(pause_s, max(0.0, end - time.monotonic())))
        return False
