"""Active health check: asks a replica whose breaker is open whether it answers, before a call is used as a probe.

A probe is a real call. If calls carry batches, many callers wait for it: those in the batch and those queued behind it.
If a replica hangs (stopped, deadlocked, behind a broken network), each probe costs these callers their whole timeout.
A health check costs no caller anything; while it gets no answer, the breaker stays open.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from typing import Protocol

from headrace.hop.resilience.breaker import Breaker

# Checks in one round, for a replica that refuses at once.
_TIMES = 5
# The last check ends this long before the breaker would become half open.
_MARGIN_S = 0.02
# On a busy machine checks end late: the breaker does not become half open before they have, for at most this long.
_HELD_S = 1.0


class Checkable(Protocol):
    """What can be checked: a transport."""

    async def answers(self, within_s: float) -> bool:
        """Whether the other side answers within `within_s` seconds and takes calls. Does not raise."""
        ...


class HealthCheck:
    """Checks one replica, in a task that exists only while its breaker is open."""

    __slots__ = ("_breaker", "_task", "_transport")

    def __init__(self, breaker: Breaker, transport: Checkable) -> None:
        self._breaker = breaker
        self._transport = transport
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts checks that go on until the breaker is no longer open. Cheap if it is not open or checks run already."""
        if self._breaker.tripped and (self._task is None or self._task.done()):
            # An empty context: it belongs to no call, so to nobody's span.
            self._task = asyncio.get_running_loop().create_task(self._ask(), context=Context())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while left := self._breaker.retry_in(time.monotonic()):
            self._breaker.hold(_HELD_S)
            # In the second half of the open time: the longer that is, the longer a check waits for its answer.
            await asyncio.sleep(left / 2)
            if await self._one_round(time.monotonic() + left / 2 - _MARGIN_S, left / 2 / _TIMES):
                self._breaker.hold(-_HELD_S)
                return
            self._breaker.unanswered(time.monotonic())

    async def _one_round(self, end: float, pause_s: float) -> bool:
        while (left := end - time.monotonic()) > 0:
            if await self._transport.answers(left):
                return True
            # A process that is being restarted refuses at once, and may be back in a moment.
            await asyncio.sleep(min(pause_s, max(0.0, end - time.monotonic())))
        return False
