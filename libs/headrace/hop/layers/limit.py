"""Limit: no more calls at once to a replica than it answers without queueing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from headrace.hop import faults
from headrace.hop.errors import Code, Fault
from headrace.hop.limiter import Limiter
from headrace.hop.outgoing import Layer, Next, Outgoing
from headrace.hop.replicas import Replica


def limit(callee: str) -> Layer:
    """At the limit a single call is refused; a gathered one waits its turn, and rows gather behind it.

    Lengthy calls take no place: a few of them would hold all, and their durations would teach the limit nonsense.
    """

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            replica = out.replica
            assert replica is not None
            if out.method.lengthy:
                return await call_next(out)
            limiter = replica.limiter
            if not limiter.acquire():
                await _turn(callee, replica, out)
            began = time.monotonic()
            try:
                reply = await call_next(out)
            except Fault as fault:
                if out.sent:
                    _learn(limiter, out, fault.code, time.monotonic() - began)
                raise
            else:
                limiter.sample(out.kind, time.monotonic() - began)
                return reply
            finally:
                limiter.release()
                _wake(replica)

        return call

    return layer


def _learn(limiter: Limiter, out: Outgoing, code: Code, seconds: float) -> None:
    if code is Code.RESOURCE_EXHAUSTED:
        limiter.dropped(out.kind, 0.0)
    elif code is Code.DEADLINE_EXCEEDED:
        limiter.dropped(out.kind, seconds)


async def _turn(callee: str, replica: Replica, out: Outgoing) -> None:
    """Waits for a place and takes it. Who was woken and finds it taken waits on."""
    if not out.patient:
        raise faults.overloaded(callee)
    while not replica.limiter.acquire():
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        replica.waiters.append(turn)
        try:
            async with asyncio.timeout(out.deadline - time.monotonic()):
                await turn
        except TimeoutError:
            raise faults.deadline_passed(callee) from None
        finally:
            if turn in replica.waiters:
                replica.waiters.remove(turn)
            elif asyncio.current_task().cancelling():  # type: ignore[union-attr] # a coroutine runs in a task
                _wake(replica)  # woken and cancelled at once: the turn goes to the next


def _wake(replica: Replica) -> None:
    """Wakes as many as there are places."""
    limiter, waiters = replica.limiter, replica.waiters
    for _ in range(min(limiter.limit - limiter.in_flight, len(waiters))):
        turn = waiters.popleft()
        if not turn.done():
            turn.set_result(None)
