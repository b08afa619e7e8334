"""Trace: a span around a call that carries a sampled request; nothing around the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace.hop.client.outgoing import Layer, Next, Outgoing
from headrace.hop.errors import Fault, reason_name

if TYPE_CHECKING:
    from headrace.hop.client.spans import ClientTraces


def trace(traces: ClientTraces | None) -> Layer:
    """`traces`: None if the process does not trace; the layer is then not there at all."""

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
                        state = out.replica.breaker.state(time.monotonic())
                        current.set_attribute("headrace.replica", out.replica.index)
                        current.set_attribute("headrace.breaker", state.label)

        return call

    return layer
