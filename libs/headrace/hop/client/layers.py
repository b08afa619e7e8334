"""The client's layers that need no state machine: trace, report, deadline."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from headrace.hop.client import faults
from headrace.hop.client.observer import ClientObserver
from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.errors import Code, Fault, reason_name

if TYPE_CHECKING:
    from headrace.hop.client.spans import ClientTraces


def trace(traces: ClientTraces | None) -> Layer:
    """Opens a span around a call that carries a sampled request. `traces` None (no tracing): no layer is added."""

    def layer(call_next: Next) -> Next:
        if traces is None:
            return call_next
        spans = traces

        async def call(out: Outgoing) -> Any:
            span = spans.span(out)
            if span is None:
                return await call_next(out)
            out.traced = True
            with span as current:
                try:
                    return await call_next(out)
                except Fault as fault:
                    current.set_attribute("headrace.code", fault.code.name)
                    current.set_attribute("headrace.reason", reason_name(fault.reason))
                    raise
                finally:
                    current.set_attribute("headrace.attempts", out.attempt)
                    if out.replica is not None:
                        state = out.replica.state(time.monotonic())
                        current.set_attribute("headrace.replica", out.replica.index)
                        current.set_attribute("headrace.breaker", state.label)

        return call

    return layer


def report(observer: ClientObserver) -> Layer:
    """Tells the observer how each call ended."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            began = time.monotonic()
            code = Code.CANCELLED  # if neither a reply nor a Fault follows
            try:
                reply = await call_next(out)
                code = Code.OK
                return reply
            except Fault as fault:
                code = fault.code
                raise
            finally:
                observer.finished(out.method.name, code, time.monotonic() - began, out.rows)

        return call

    return layer


def deadline(callee: str, default_timeout_s: float, margin_s: float) -> Layer:
    """Sets the default deadline where there is none, subtracts the margin, and refuses a call whose time is over."""

    def layer(call_next: Next) -> Next:
        async def call(out: Outgoing) -> Any:
            now = time.monotonic()
            if out.deadline == math.inf:
                out.deadline = now + default_timeout_s
            out.deadline -= margin_s
            if out.deadline <= now:
                raise faults.deadline_passed(callee)
            return await call_next(out)

        return call

    return layer
