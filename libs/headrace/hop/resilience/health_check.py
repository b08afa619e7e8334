"""Active health check: asks a replica that gives reason to doubt whether it answers, before calls find out.

A call that finds out carries many rows: many callers wait for it, those in the batch and those queued behind it. If a replica
hangs (stopped, deadlocked, behind a broken network), it would cost them their whole timeout. A health check costs no caller
anything. While a replica is silent no call goes to it; while it has not answered, no call is used as a probe of a breaker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

from headrace.hop.resilience.liveness import Liveness

# A refusal comes at once and is no silence. Timeouts may fire slightly early.
WHOLE = 0.9
# Pause between two checks, doubled at each: a process that is being restarted refuses at once, and may be back in a moment.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# While a breaker is open, the next check comes when half of its time has passed; the last this long before its end.
_MARGIN_S = 0.02


class Checkable(Protocol):
    """What can be checked: a transport."""

    async def answers(self, within_s: float) -> bool:
        """Whether the other side answers within `within_s` seconds and takes calls. Does not raise."""
        ...


class HealthCheck:
    """Checks one replica, in a task that exists only while there is reason to. `rest`: seconds from a time until the last of
    its breakers lets a probe through; None: all are closed."""

    __slots__ = ("_liveness", "_rest", "_task", "_transport", "unsure")

    def __init__(
        self, liveness: Liveness, transport: Checkable, rest: Callable[[float], float | None]
    ) -> None:
        self._liveness = liveness
        self._transport = transport
        self._rest = rest
        self._task: asyncio.Task[None] | None = None
        # Whether it was asked and has not answered yet.
        self.unsure = False

    def begin(self) -> None:
        """Asks until it answers, and while a breaker is open. Cheap if it is being asked already."""
        if self._task is None or self._task.done():
            self.unsure = True
            # An empty context: it belongs to no call, so to nobody's span.
            self._task = asyncio.get_running_loop().create_task(self._ask(), context=Context())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            self.unsure = True
            answers = await self._answered()
            left = self._rest(time.monotonic())
            if answers:
                self.unsure = False
                if left is None or left <= _MARGIN_S:
                    return
                await asyncio.sleep(left / 2)
                pause = _FIRST_PAUSE_S
            elif left is not None or self._liveness.silent:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                # It refused at once, or answered a call meanwhile: calls will find out what that means.
                self.unsure = False
                return

    async def _answered(self) -> bool:
        asked = time.monotonic()
        within_s = self._liveness.patience(asked)
        answers = await self._transport.answers(within_s)
        now = time.monotonic()
        if answers:
            self._liveness.answered = now
        elif now - asked >= WHOLE * within_s:
            self._liveness.unanswered(asked, now)
        return answers
