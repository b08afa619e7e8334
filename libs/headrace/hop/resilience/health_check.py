"""Active health check: asks a replica that gives reason to doubt whether it answers, before calls find out.

A call that finds out carries many rows: many callers wait for it, those in the batch and those queued behind it. A health check
costs no caller anything. While a replica is silent no call goes to it, and while it has not answered none is used as a probe.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

# A refusal comes at once and is no silence. Timeouts may fire slightly early.
WHOLE = 0.9
# Pause between two checks, doubled at each: a process that is being restarted refuses at once, and may be back in a moment.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
# While a breaker is open, the next check comes when half of its time has passed; the last this long before its end.
_MARGIN_S = 0.02
# A process is silent after `slow_s` at most, but no later than this: health is never slow by nature. It has at least half of that
# for its answer, also if it was not called for long: a busy machine stops for a moment.
_MOST_S = 2.0


class Liveness:
    """Whether a process answers: a pure state machine. `answered`: when it last answered a call of any method, or for its
    health (monotonic seconds); `silent_at`: when a question for its health last remained without an answer.

    Timeouts do not say so: callers choose how long they wait. It is silent when it was asked for its health and for long
    answered neither that nor any call. Any answer ends the silence.
    """

    def __init__(self, slow_s: float, now: float) -> None:
        self._most_s = WHOLE * min(slow_s, _MOST_S)
        self.silent_at = -math.inf
        self.answered = now

    @property
    def silent(self) -> bool:
        return self.silent_at > self.answered

    def patience(self, now: float) -> float:
        """Seconds that a question for its health waits for an answer."""
        return max(self._most_s - (now - self.answered), self._most_s / 2)

    def unanswered(self, asked: float, now: float) -> None:
        """The question of `asked` has waited in vain until now."""
        if self.answered < asked:
            self.silent_at = now


class HealthCheck:
    """Checks one replica, in a task that exists only while there is reason to. `answers`: of its transport. `rest`: seconds from
    a time until the last of its breakers lets a probe through; None: all are closed."""

    def __init__(
        self,
        liveness: Liveness,
        answers: Callable[[float], Awaitable[bool]],
        rest: Callable[[float], float | None],
    ) -> None:
        self._liveness = liveness
        self._answers = answers
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
        answers = await self._answers(within_s)
        now = time.monotonic()
        if answers:
            self._liveness.answered = now
        elif now - asked >= WHOLE * within_s:
            self._liveness.unanswered(asked, now)
        return answers
