"""Balancer: chooses the replica of an attempt. Pure choice by load or by key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeAlias, TypeVar

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.limiters import CLIENT_CONCURRENCY
from headrace.hop.resilience.replicas import Guard, Replica, ReplicaSet

# A replica chosen by key is passed over while it has more than this times the mean of calls outstanding.
_LOAD_FACTOR = 1.25


class Candidate(Protocol):
    """What the choice needs to know about a replica."""

    @property
    def address(self) -> str: ...
    @property
    def outstanding(self) -> int: ...


C = TypeVar("C", bound=Candidate)
Picked: TypeAlias = tuple[Replica, Guard]


def least_of_two(candidates: Sequence[C], random: Callable[[], float]) -> C:
    """The less busy of two different candidates drawn at random. `random` gives floats in [0, 1)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    first = int(random() * count)
    second = int(random() * (count - 1))
    second += second >= first
    one, other = candidates[first], candidates[second]
    return other if other.outstanding < one.outstanding else one


def by_key(candidates: Sequence[C], key: str) -> C:
    """The first candidate in the key's rendezvous-hash order that is not overloaded.

    A key keeps its replica while the set does not change; when a replica leaves, only its keys move.
    """
    bound = _LOAD_FACTOR * (sum(c.outstanding for c in candidates) + 1) / len(candidates)
    ranked = sorted(candidates, key=lambda c: _score(key, c.address), reverse=True)
    # At least one is below the bound, so the default is never used; the type checker needs it.
    return next((c for c in ranked if c.outstanding < bound), ranked[0])


def choose(candidates: Sequence[C], key: str, random: Callable[[], float]) -> C:
    """One of the candidates (at least one); by `key` unless it is empty."""
    return by_key(candidates, key) if key and len(candidates) > 1 else least_of_two(candidates, random)


def _score(key: str, address: str) -> bytes:
    return blake2b(
        key.encode(), key=blake2b(address.encode(), digest_size=16).digest(), digest_size=8
    ).digest()


# A call that waits for a slot looks again this often: no event tells it of a new replica or of a closed breaker.
_LOOK_S = 0.05


async def wait(callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float]) -> Picked:
    """If every replica is at its limit, a single call is refused; a batch call waits for the first free slot of any, while more
    rows join the queue behind it. Raises Fault."""
    if not out.patient:
        raise faults.overloaded(callee, CLIENT_CONCURRENCY)
    with replicas.waiting() as waiter:
        while True:
            left = out.deadline - time.monotonic()
            if left <= 0:
                raise faults.deadline_passed(callee)
            await waiter.look(min(left, _LOOK_S))
            replica, guard = chosen(callee, replicas, out, random)
            if guard.limiter.has_room():
                return replica, guard


def chosen(callee: str, replicas: ReplicaSet, out: Outgoing, random: Callable[[], float]) -> Picked:
    """The replica of an attempt. Raises Fault BREAKER_OPEN at once when the method's breakers are all open, or the replicas
    silent: no queue, no wait."""
    now, method = time.monotonic(), out.method.name
    candidates = replicas.all if out.only is None else (out.only,)
    ready = [(r, guard) for r in candidates if (guard := r.ready(method, now))]
    if not ready:
        # All may have left the set while the call waited for a slot.
        raise faults.breaker_open(callee) if candidates else faults.unreachable(callee)
    if len(ready) == 1:
        return ready[0]
    if not out.patient:  # it would be refused by a full replica, so a free slot comes first
        ready = [r for r in ready if r[1].limiter.has_room()] or ready
    # Preferences, each ignored if no replica fulfils it: not tried before, not failing now, with a free slot.
    ready = [r for r in ready if r[0] not in out.tried] or ready
    ready = [r for r in ready if not r[1].breaker.doubted(now)] or ready
    ready = [r for r in ready if r[1].limiter.has_room()] or ready
    if out.prefer is not None:
        ready = [r for r in ready if r[0].index == out.prefer] or ready
    replica = choose([r[0] for r in ready], out.key, random)
    return replica, replica.guard(method)


async def first(callee: str, replicas: ReplicaSet, deadline: float) -> None:
    """Waits for the first resolution. After that, an empty set means that there are no replicas. Raises Fault.

    A directory is read once more: a caller that knows the service is ready may call before the next periodic read.
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
