"""Hedge: a call whose replica has fallen silent is sent to another one too, and the first answer counts.

A machine that is gone closes no connection: without this, the calls in flight on it wait until their deadline. A replica is
silent when it has answered no call for `silent_s` since this one began, and then no health check within `silent_s` either. One
that is busy with a long call answers that, so what is slow is not sent twice; the retry budget bounds it anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from headrace.hop.client.outgoing import Next, Outgoing
from headrace.hop.errors import Fault
from headrace.hop.resilience.health_check import WHOLE
from headrace.hop.resilience.replicas import Replica, ReplicaSet
from headrace.hop.resilience.retry import RetryBudget

# A replica that answered the health check is asked again after this many times `silent_s`; so is one that did not while no
# other had a place for the call, or the budget had no retry.
_REST = 10.0


class Race:
    """One call, and perhaps a second one. The first runs in the caller's own task: most calls need no other."""

    def __init__(
        self,
        out: Outgoing,
        call_next: Next,
        replicas: ReplicaSet,
        silent_s: float,
        budget: RetryBudget,
        hedged: Callable[[str], None],
    ) -> None:
        self._out, self._call_next = out, call_next
        self._replicas, self._budget = replicas, budget
        self._silent_s, self._hedged = silent_s, hedged
        self._asking: asyncio.Task[None] | None = None
        self._second: tuple[Outgoing, asyncio.Future[Any]] | None = None
        self._won = False  # the second has answered, and the first was cancelled for it

    async def run(self) -> Any:
        """The first answer. Raises the Fault of the first call if both fail."""
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] | None = task
        self._began, self._out.sent = time.monotonic(), False
        self._timer = asyncio.get_running_loop().call_later(self._silent_s, self._look)
        cancelling = task.cancelling()
        try:
            reply = await self._call_next(self._out)
        except asyncio.CancelledError:
            # By `_answered`; if somebody else cancels the task too, it ends.
            if not self._won or task.uncancel() > cancelling:
                raise
            return self._taken()
        except Fault:
            if self._second is None:
                raise
            self._task = None
            await asyncio.wait((self._second[1],))
            if self._second[1].exception() is not None:
                raise
            return self._taken()
        else:
            if self._won:
                task.uncancel()  # it came in the same moment
            return reply
        finally:
            self._task = None
            self._timer.cancel()
            if self._asking is not None:
                self._asking.cancel()
            if self._second is not None:
                self._second[1].cancel()

    def _look(self) -> None:
        """Asks for the replica's health if it may be silent, or looks again when it may be."""
        replica = self._out.replica
        if replica is None or not self._out.sent:
            self._again(self._silent_s)  # it waits for a slot
            return
        quiet = time.monotonic() - max(self._began, replica.liveness.answered)
        if quiet < self._silent_s:
            self._again(self._silent_s - quiet)
            return
        # An empty context: a health check belongs to nobody's span.
        self._asking = asyncio.get_running_loop().create_task(self._ask(replica), context=Context())

    async def _ask(self, replica: Replica) -> None:
        began = time.monotonic()
        answers = await replica.transport.answers(self._silent_s)
        if answers or time.monotonic() - began < WHOLE * self._silent_s:
            self._again(_REST * self._silent_s)
        elif replica is not self._out.replica:
            self._again(self._silent_s)  # meanwhile the call went to another one
        elif not self._send(replica):
            self._again(_REST * self._silent_s)

    def _send(self, silent: Replica) -> bool:
        """Whether it is sent to another replica, too."""
        now = time.monotonic()
        if now >= self._out.deadline or not self._others(silent, now) or not self._budget.withdraw(now):
            return False
        silent.guard(self._out.method.name).breaker.silent(now)
        silent.health_check.begin()
        self._hedged(self._out.method.name)
        second = self._out.copy()
        task = asyncio.ensure_future(self._call_next(second))
        self._second = second, task
        task.add_done_callback(self._answered)
        return True

    def _again(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.001), self._look)

    def _others(self, silent: Replica, now: float) -> bool:
        """Whether another replica seems well."""
        method = self._out.method.name
        guards = [r.ready(method, now) for r in self._replicas.all if r is not silent]
        return any(g and not g.breaker.doubted(now) and g.limiter.has_room() for g in guards)

    def _answered(self, second: asyncio.Future[Any]) -> None:
        if not second.cancelled() and second.exception() is None and self._task is not None:
            self._won = True
            self._task.cancel()

    def _taken(self) -> Any:
        assert self._second is not None
        second, task = self._second
        self._out.adopt(second)
        return task.result()
