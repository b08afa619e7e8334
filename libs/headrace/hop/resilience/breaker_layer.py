"""Breaker: stops calls to a replica that cannot answer; innermost, so that it sees what the transport saw."""

from __future__ import annotations

import time
from typing import Any

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.errors import CALLEE_FAULTS, Code, Fault


def breaker(callee: str) -> Layer:
    """Asks the replica's breaker, tells it how the call ended, and checks that the reply fits the request.

    A lengthy call is let through or not as any other, but tells the breaker nothing: it would count as slow.
    """

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            replica = out.replica
            assert replica is not None
            state = replica.breaker
            began = time.monotonic()
            permit = state.admit(began)
            if not permit:
                raise faults.breaker_open(
                    callee
                )  # another call took the last probe since the replica was picked
            out.sent = False
            try:
                reply = await call_next(out)
                failed = out.accept(reply)
            except Fault as fault:
                now = time.monotonic()
                if out.sent and fault.code is not Code.CANCELLED and not out.method.lengthy:
                    late = fault.code is Code.DEADLINE_EXCEEDED
                    state.record(permit, now, now - began, float(fault.code in CALLEE_FAULTS), late)
                    replica.asking.begin()
                else:
                    state.release(permit)
                raise
            except BaseException:
                state.release(permit)
                raise
            if out.method.lengthy:
                state.release(permit)
                return reply
            now = time.monotonic()
            state.record(permit, now, now - began, failed)
            replica.asking.begin()
            return reply

        return call

    return layer


def transport(out: Outgoing) -> Any:
    """The innermost call: through the picked replica's transport."""
    assert out.replica is not None
    return out.replica.transport.call(out)
