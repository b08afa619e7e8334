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
    """Refuses a single call when the limit is reached; a gathered one waits its turn, and rows gather behind it."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            replica = out.replica
            assert replica is not None
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
            if not turn.done() or turn.cancelled():
                replica.waiters.remove(turn)


def _wake(replica: Replica) -> None:
    waiters = replica.waiters
    while waiters and replica.limiter.has_room():
        turn = waiters.popleft()
        if not turn.done():
            turn.set_result(None)
            return
