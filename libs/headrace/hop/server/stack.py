"""What a server does around each call, from the outside in. (The client's is in `client/stack.py`.)

trace     a span covers all that happens to the call. Over gRPC, OpenTelemetry's interceptor made it before.
report    counts the status that the caller gets, so it sits outside whatever makes or changes a status.
errors    everything inside may raise anything; everything outside sees Faults only.
shed      before the certificate is checked: refusing must be the cheapest thing that a loaded server does.
auth      before the deadline: a stranger learns nothing, not even that it is late.
deadline  innermost: the time that it bounds is the handler's.

It sees a handler's outcome as what is returned or raised, so one function serves all four RPC arities.
"""

from __future__ import annotations

import math
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.process.timeouts import Timeouts
from headrace.hop.server.checks import Auth, Deadline, Shed, deadline_passed
from headrace.hop.server.report import Errors, Report, ServerInstruments, Trace

Handler = Callable[[Call], Awaitable[Any]]
# Serves a call: runs the handler with all of the above, and raises nothing but Fault and CancelledError.
Serve = Callable[[Call, Handler], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ServerStack:
    """That of one server; `shed` is what a shutdown closes."""

    serve: Serve
    shed: Shed


def server_stack(
    service: str, settings: config.Server, telemetry: Telemetry, streams: frozenset[str] = frozenset()
) -> ServerStack:
    """`streams`: paths of the methods that stream."""
    shed = Shed(service, settings.max_concurrent_calls)
    serve = _serve(
        Report(service, telemetry.once(ServerInstruments), telemetry.log),
        Errors(telemetry.log),
        shed,
        Auth(settings.tls.peers if settings.tls else ()),
        Deadline(settings.default_timeout_s, settings.min_budget_s, streams),
    )
    return ServerStack(serve if telemetry.traces is None else Trace(telemetry.traces).around(serve), shed)


def _serve(report: Report, errors: Errors, shed: Shed, auth: Auth, deadline: Deadline) -> Serve:
    timeouts = Timeouts()

    async def bounded(call: Call, handler: Handler) -> Any:
        budget = deadline.budget(call)
        if budget == math.inf:
            return await handler(call)
        timeout = timeouts.begin(budget)
        try:
            return await handler(call)
        except CancelledError:
            if not timeout.caused_it():
                raise
            raise deadline_passed() from None
        finally:
            timeouts.end(timeout)

    async def serve(call: Call, handler: Handler) -> Any:
        began, failed = time.monotonic(), None
        try:
            shed.enter()
            try:
                if not call.peer.trusted:
                    call.peer = auth.identify(call.peer)
                return await bounded(call, handler)
            finally:
                shed.leave()
        except BaseException as error:
            failed = errors.seen(call, error)
            if failed is error:
                raise
            raise failed from error
        finally:
            report.record(call, time.monotonic() - began, failed)

    return serve
