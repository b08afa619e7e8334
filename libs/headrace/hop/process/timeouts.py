"""Time limits of tasks, at a tenth of what asyncio.timeout costs (4 µs a task): one timer looks after all of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

# Timers of uvloop count whole milliseconds and may fire up to one millisecond early.
_TICK_S = 0.001


class Timeouts:
    """Tasks of one event loop that each have a time limit. A task that takes longer is cancelled. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._timeouts: dict[Timeout, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def begin(self, until: float) -> Timeout:
        """The running task begins something that may last until then; `end` must follow."""
        task = asyncio.current_task()
        assert task is not None, "calls are served in tasks"
        timeout = Timeout(task, until)
        self._timeouts[timeout] = None
        if until < self._timer_at:
            self._arm(until, self._clock())
        return timeout

    def end(self, timeout: Timeout) -> None:
        """The task has ended it."""
        self._timeouts.pop(timeout, None)

    def _arm(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(at - now, _TICK_S), self._expire)

    def _expire(self) -> None:
        now = self._clock()
        for timeout in [t for t in self._timeouts if t.until <= now]:
            del self._timeouts[timeout]
            timeout.expired = True
            timeout.task.cancel()
        self._timer, self._timer_at = None, math.inf
        if self._timeouts:
            self._arm(min(t.until for t in self._timeouts), now)


class Timeout:
    """The time limit of one task."""

    __slots__ = ("_cancelling", "expired", "task", "until")

    def __init__(self, task: asyncio.Task[Any], until: float) -> None:
        self.task = task
        self.until = until
        self.expired = False
        self._cancelling = task.cancelling()

    def caused_it(self) -> bool:
        """Whether only this timeout has cancelled the task. If so, the cancellation is undone. To be asked once."""
        return self.expired and self.task.uncancel() <= self._cancelling
