"""Pick: chooses the replica of an attempt, among those whose breaker lets calls through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.limiters import CLIENT_CONCURRENCY
from headrace.hop.resilience import picker
from headrace.hop.resilience.replicas import Replica, ReplicaSet

# How long who waits for a place goes without looking: a replica that comes, or is trusted again, ends no call.
_LOOK_S = 0.05


def pick(callee: str, replicas: ReplicaSet, random: Callable[[], float]) -> Layer:
    """Fails at once with BREAKER_OPEN when every breaker is open: no queue, no wait.

    Where every replica is at its limit, a single call is refused; a gathered one waits for the first place that any of
    them has, and rows gather behind it.
    """

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            if not replicas.all:
                await first(callee, replicas, out.deadline)
            replica = _choose(callee, replicas, out, random)
            if not (replica.limiter.has_room() or out.method.lengthy):
                replica = await _wait(callee, replicas, out, random)
            out.replica = replica
            replica.began()
            try:
                return await call_next(out)
            except Exception:
                out.tried.append(replica)
                raise
            finally:
                replica.ended()

        return call

    return layer


async def _wait(callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float]) -> Replica:
    if not out.patient:
        raise faults.overloaded(callee, CLIENT_CONCURRENCY)
    with replicas.waiting() as turn:
        while True:
            left = out.deadline - time.monotonic()
            if left <= 0:
                raise faults.deadline_passed(callee)
            await turn.look(min(left, _LOOK_S))
            replica = _choose(callee, replicas, out, random)
            if replica.limiter.has_room():
                return replica


def _choose(callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float]) -> Replica:
    now = time.monotonic()
    candidates = replicas.all if out.only is None else (out.only,)
    ready = [r for r in candidates if r.breaker.ready(now)]
    if not ready:
        # All may have left the set while the call waited for a place.
        raise faults.breaker_open(callee) if candidates else faults.unreachable(callee)
    if len(ready) > 1:
        if not out.patient:  # it would be refused where there is no room, so nothing matters more
            ready = [r for r in ready if r.limiter.has_room()] or ready
        # Preferences, each dropped if it leaves nobody: not tried before, not failing now, with room.
        ready = [r for r in ready if r not in out.tried] or ready
        ready = [r for r in ready if not r.breaker.doubted(now)] or ready
        ready = [r for r in ready if r.limiter.has_room()] or ready
    return picker.pick(ready, out.key, random)


async def first(callee: str, replicas: ReplicaSet, deadline: float) -> None:
    """Waits for the first resolution. Afterwards an empty set is an answer: nobody serves. Raises Fault.

    In a directory we look once more: whoever is told that all are ready may call sooner than it is read again.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await replicas.resolved.wait()
    except TimeoutError:
        raise faults.unreachable(callee) from None
    if not replicas.all:
        replicas.look()
    if not replicas.all:
        raise faults.unreachable(callee)
