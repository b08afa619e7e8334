"""The server's layers and their order. (The client's are in `client/stack.py`.)

A layer is an async context manager around a call. It sees a handler's outcome as the exception that passes
through it, so one layer serves all four RPC arities. A layer may replace an exception, never swallow one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.checks import Auth, Deadline, Shed
from headrace.hop.server.report import Errors, Report, ServerInstruments, Trace

Handler = Callable[[Call], Awaitable[Any]]
# Serves a call: runs the handler inside all layers, and raises nothing but Fault and CancelledError.
Serve = Callable[[Call, Handler], Awaitable[Any]]


class Layer(Protocol):
    """What wraps every call of a server."""

    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """Entered before the handler runs, left with its outcome."""
        ...


@dataclass(frozen=True, slots=True)
class ServerStack:
    """The composed layers of one server; `shed` is what a shutdown closes."""

    serve: Serve
    shed: Shed


def server_stack(
    service: str, settings: config.Server, telemetry: Telemetry, streams: frozenset[str] = frozenset()
) -> ServerStack:
    """The layers of one server, composed. `streams`: paths of the methods that stream."""
    shed = Shed(service, settings.max_concurrent_calls)
    layers: list[Layer] = [
        # A span covers all that happens to the call. Over gRPC, OpenTelemetry's interceptor made it before.
        Trace(telemetry),
        # Counts the status that the caller gets, so it sits outside whatever makes or changes a status.
        Report(service, telemetry.once(ServerInstruments), telemetry.log),
        # Everything inside may raise anything; everything outside sees Faults only.
        Errors(telemetry.log),
        # Before the certificate is checked: refusing must be the cheapest thing that a loaded server does.
        shed,
        # Before the deadline: a stranger learns nothing, not even that it is late.
        Auth(settings.tls.peers if settings.tls else ()),
        # Innermost: the time that it bounds is the handler's.
        Deadline(settings.default_timeout_s, settings.min_budget_s, streams),
    ]
    return ServerStack(compose(layers), shed)


def compose(layers: Sequence[Layer]) -> Serve:
    """One function that runs a handler inside the layers, outermost first."""

    async def innermost(call: Call, handler: Handler) -> Any:
        return await handler(call)

    serve: Serve = innermost
    for layer in reversed(layers):
        serve = _inside(layer, serve)
    return serve


def _inside(layer: Layer, inner: Serve) -> Serve:
    around = layer.around

    async def serve(call: Call, handler: Handler) -> Any:
        async with around(call):
            return await inner(call, handler)

    return serve
