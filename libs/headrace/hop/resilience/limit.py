"""Limit: no more calls at once to a replica than it answers without queueing."""

from __future__ import annotations

import time
from typing import Any

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.errors import Code, Fault
from headrace.hop.limiters import CLIENT_CONCURRENCY
from headrace.hop.resilience.limiter import Limiter
from headrace.hop.resilience.replicas import ReplicaSet


def limit(callee: str, replicas: ReplicaSet) -> Layer:
    """Counts calls in and out; where there is no place, the call has waited or was refused before (`pick.py`).

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
                raise faults.overloaded(
                    callee, CLIENT_CONCURRENCY
                )  # not reached: nothing comes between the choice and this
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
                replicas.wake()

        return call

    return layer


def _learn(limiter: Limiter, out: Outgoing, code: Code, seconds: float) -> None:
    if code is Code.RESOURCE_EXHAUSTED:
        limiter.dropped(out.kind, 0.0)
    elif code is Code.DEADLINE_EXCEEDED:
        limiter.dropped(out.kind, seconds)
