"""The way of a call through the client, from the outside in, with the reason for each place.

coalesce  outermost (batching/coalesce.py): all that follows costs once per batch, not once per item.
report    outside the retry: the caller sees one call, so one is counted.
deadline  before the retry: all attempts share one budget.
retry     outside the choice of replica: each attempt chooses again.
hedge     inside the retry: the second call to another replica is part of one attempt, and shares its budget.
pick      outside limit and breaker: these belong to one replica. A call that must wait for a slot waits here, for the
          first free slot of any replica.
limit     outside the breaker: the breaker is asked only when a slot was found.
breaker   next to the transport: it sees exactly what the callee did, and no refusal of our own.
transport frames, gRPC channel or the service in this process; writes the remaining time into the request at the last moment.

They are two functions and not one each, since a coroutine for each would cost as much as all of their work.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.hop.client import faults
from headrace.hop.client.observer import ClientObserver
from headrace.hop.client.outgoing import Next, Outgoing
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Code, Fault
from headrace.hop.resilience import breaker, hedge, limiter
from headrace.hop.resilience.replicas import (
    ReplicaSet,
    choose_replica,
    first_resolved,
    wait_for_slot,
)
from headrace.hop.resilience.retry import RetryBudget, pause

# Subtracted from the deadline that the callee gets, so that this side can still answer in time.
_MARGIN_S = 0.002


def compose(
    callee: str,
    settings: ClientRules,
    replicas: ReplicaSet,
    random: Callable[[], float],
    observer: ClientObserver,
) -> Next:
    """All below the coalescer. The methods of a client share it, and so share the retry budget. `random`: in [0, 1)."""
    budget = RetryBudget(settings.retry.budget_ratio, settings.retry.budget_reserve)
    once, silent_s = _attempt(callee, replicas, random), settings.retry.silent_s

    def attempt(out: Outgoing) -> Awaitable[Any]:
        method = out.method
        if len(replicas.all) < 2 or not method.idempotent or method.lengthy or out.only is not None:
            return once(out)
        return hedge.Race(out, once, replicas, silent_s, budget, observer.hedged).run()

    return _call(callee, settings, budget, random, observer, attempt)


def _call(
    callee: str,
    settings: ClientRules,
    budget: RetryBudget,
    random: Callable[[], float],
    observer: ClientObserver,
    attempt: Next,
) -> Next:
    """Report, deadline and retry."""
    # A program that is no service has nobody to answer.
    margin_s = _MARGIN_S if settings.exchange else 0.0

    async def call(out: Outgoing) -> Any:
        began = time.monotonic()
        code = Code.CANCELLED  # if neither a reply nor a Fault follows
        try:
            if out.deadline == math.inf:
                out.deadline = began + settings.default_timeout_s
            out.deadline -= margin_s
            if out.deadline <= began:
                raise faults.deadline_passed(callee)
            budget.attempts += 1
            while True:
                try:
                    reply = await attempt(out)
                    code = Code.OK
                    return reply
                except Fault as fault:
                    seconds = pause(settings.retry, fault, out, random)
                    if seconds is None:
                        raise
                    now = time.monotonic()
                    if now + seconds >= out.deadline or not budget.withdraw(now):
                        raise
                observer.retried(out.method.name)
                await asyncio.sleep(seconds)
                out.attempt += 1
        except Fault as fault:
            code = fault.code
            raise
        finally:
            observer.finished(out.method.name, code, time.monotonic() - began)

    return call


def _attempt(callee: str, replicas: ReplicaSet, random: Callable[[], float]) -> Next:
    """Pick, limit, breaker and transport.

    Lengthy calls take no slot: a few of them would hold all slots, and their durations would spoil the limit. The breaker admits
    or refuses them like others, but does not record them: they would count as slow.
    """

    async def attempt(out: Outgoing) -> Any:
        if not replicas.all:
            await first_resolved(callee, replicas, out.deadline)
        began, lengthy = time.monotonic(), out.method.lengthy
        replica, guard = choose_replica(callee, replicas, out, random, began)
        if not (lengthy or guard.limiter.acquire()):
            replica, guard = await wait_for_slot(callee, replicas, out, random)
            began = time.monotonic()
        state, limit = guard.breaker, guard.limiter
        out.replica, out.guard, out.sent = replica, guard, False
        replica.outstanding += 1
        permit = state.admit(began)
        try:
            if not permit:
                # Another call took the last probe since the replica was picked.
                raise faults.breaker_open(callee)
            reply = await replica.transport.call(out)
            failed = out.accept(reply)
            replica.liveness.answered = now = time.monotonic()
            if lengthy:
                state.release(permit)
                return reply
            state.record(permit, now, now - began, failed, out.kind, out.rows)
            limit.sample(out.kind, now - began)
            if not state.closed and state.tripped:
                replica.health_check.begin()
            return reply
        except Fault as fault:
            if permit:
                breaker.failed(out, callee, permit, began, fault)
            if not lengthy:
                limiter.failed(limit, out, fault)
            out.tried = (*out.tried, replica)
            raise
        except BaseException:
            state.release(permit)
            raise
        finally:
            if not lengthy:
                limit.release()
                replicas.wake()
            replica.ended()

    return attempt
