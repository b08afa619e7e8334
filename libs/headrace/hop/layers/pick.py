"""Pick: chooses the replica of an attempt, among those whose breaker lets calls through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from headrace.hop import faults, picker
from headrace.hop.outgoing import Layer, Next, Outgoing
from headrace.hop.replicas import Replica, ReplicaSet


def pick(callee: str, replicas: ReplicaSet, random: Callable[[], float]) -> Layer:
    """Fails at once with BREAKER_OPEN when every breaker is open: no queue, no wait."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            if not replicas.all:
                await first(callee, replicas, out.deadline)
            candidates = replicas.all if out.only is None else (out.only,)
            out.replica = replica = _choose(callee, candidates, out, random)
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


def _choose(
    callee: str, replicas: tuple[Replica, ...], out: Outgoing, random: Callable[[], float]
) -> Replica:
    now = time.monotonic()
    ready = [r for r in replicas if r.breaker.ready(now)]
    if not ready:
        raise faults.breaker_open(callee)
    if len(ready) > 1:
        # Preferences, each dropped if it leaves nobody: not tried before, not failing now, with room.
        ready = [r for r in ready if r not in out.tried] or ready
        ready = [r for r in ready if not r.breaker.doubted(now)] or ready
        ready = [r for r in ready if r.limiter.has_room()] or ready
    return picker.pick(ready, out.key, random)


async def first(callee: str, replicas: ReplicaSet, deadline: float) -> None:
    """Waits for the first resolution. Afterwards an empty set is an answer: nobody serves. Raises Fault."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await replicas.resolved.wait()
    except TimeoutError:
        raise faults.unreachable(callee) from None
    if not replicas.all:
        raise faults.unreachable(callee)
