"""What a server reports of each call: a span, counts, times, a log line, and an error that a caller may see.

`stack.py` has the order: Trace, Report, Errors.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.hop.metrics import Counter, Histogram
from headrace.hop.process.logs import some

if TYPE_CHECKING:
    from headrace.hop.process.traces import Traces
    from headrace.hop.server.stack import Handler, Serve

# Seconds. Calls take from some hundred µs to the default timeout of 10 s.
BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.064,
    0.128,
    0.256,
    0.512,
    1.024,
    2.5,
    5.0,
    10.0,
)
_LINES_PER_S = 10


class ServerInstruments:
    """Metrics that all hop servers of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "headrace_hop_server_calls", "Calls answered.", ["service", "method", "code"], registry=registry
        )
        self.seconds = Histogram(
            "headrace_hop_server_seconds",
            "Time from a call's arrival to its answer.",
            ["service", "method"],
            buckets=BUCKETS,
            registry=registry,
        )


class LineBudget:
    """At most `_LINES_PER_S` lines of one kind a second; a server that sheds load must not spend its time on logging."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, Code], tuple[float, int]] = {}

    def take(self, kind: tuple[str, Code], now: float) -> int | None:
        """None: write no line. Otherwise the number of lines left out since the last one."""
        began, seen = self._windows.get(kind, (-math.inf, 0))
        if now - began >= 1.0:
            self._windows[kind] = now, 1
            return max(0, seen - _LINES_PER_S)
        self._windows[kind] = began, seen + 1
        return 0 if seen < _LINES_PER_S else None


class Report:
    """One counter, one histogram and one log line per call: level debug for success, info for failure.

    Lines of failures are limited per method and code; `left_out` is the number of lines not written."""

    def __init__(self, service: str, instruments: ServerInstruments, log: Any) -> None:
        self._service = service
        self._instruments = instruments
        self._log, self._debugs = log, log.is_enabled_for(logging.DEBUG)
        self._lines = LineBudget()
        # `labels()` takes a lock and builds a tuple of strings; there are few children, so they are kept.
        self._calls: dict[tuple[str, Code], tuple[Counter, Histogram]] = {}

    def record(self, call: Call, took_s: float, error: BaseException | None) -> None:
        """Records one finished call; `error` is a Fault, a cancellation or None."""
        code = Code.OK if error is None else error.code if isinstance(error, Fault) else Code.CANCELLED
        counter, histogram = self._calls.get((call.method, code)) or self._children(call.method, code)
        counter.inc()
        histogram.observe(took_s)
        if not isinstance(error, Fault):
            # Answered, or ended by its caller, as who waits for a change does when it stops.
            if self._debugs:
                took = round(took_s * 1e6)
                self._log.debug(
                    "call", method=call.method, peer=call.peer.transport, code=code.name, took_us=took
                )
            return
        left_out = self._lines.take((call.method, code), time.monotonic())
        if left_out is None:
            return
        self._log.info(
            "call failed",
            method=call.method,
            peer=call.peer.transport,
            peer_identity=call.peer.identity,
            code=code.name,
            reason=reason_name(error.reason),
            message=str(error),
            took_us=round(took_s * 1e6),
            left_out=left_out,
            **named(call),
        )

    def _children(self, method: str, code: Code) -> tuple[Counter, Histogram]:
        labels = self._service, method.removeprefix("/")
        calls, seconds = self._instruments.calls, self._instruments.seconds
        children = self._calls[method, code] = calls.labels(*labels, code.name), seconds.labels(*labels)
        return children


def named(call: Call) -> dict[str, list[str]]:
    """Request ids of a call as fields of a log line; empty if they are not known."""
    return {"request_ids": some(call.request_ids)} if call.request_ids else {}


class Errors:
    """A `Fault` passes. Any other exception is a defect: it is logged under an id, and the caller gets only the id."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def seen(self, call: Call, error: BaseException) -> BaseException:
        """What the caller sees of an error."""
        if isinstance(error, Fault) or not _is_defect(error):
            return error
        # Not a counter: two processes must not create the same id.
        identity = secrets.token_hex(6)
        self._log.error(
            "call failed unexpectedly",
            method=call.method,
            error_id=identity,
            exc_info=error,
            **named(call),
        )
        return Fault(
            Code.INTERNAL,
            Reason.REASON_INTERNAL,
            f"An internal error occurred; the operator finds it in the log as {identity}.",
            metadata={"error_id": identity},
        )


def _is_defect(error: BaseException) -> bool:
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, Exception)
    # This task was not cancelled itself; the CancelledError came from something it awaited. If it passed, grpc.aio
    # would end the handler without a status, and the caller would wait until its deadline.
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


class Trace:
    """Writes the reason of a failure and the servicer's notes on the call's span. The span of a local call begins here;
    OpenTelemetry's interceptor began that of a gRPC call."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    def around(self, serve: Serve) -> Serve:
        """The same, in a span."""

        async def traced(call: Call, handler: Handler, request: Any) -> Any:
            span = self._traces.local_span(call) if call.peer.transport == "local" else None
            if span is not None:
                span.__enter__()
            error: BaseException | None = None
            try:
                return await serve(call, handler, request)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self._end(call, span, error)

        return traced

    def _end(self, call: Call, span: AbstractContextManager[Any] | None, error: BaseException | None) -> None:
        if isinstance(error, Fault):
            self._traces.mark(error.code.value, reason_name(error.reason), error.message)
        elif span is not None and error is None:
            self._traces.note({"rpc.grpc.status_code": 0})
        if call.notes:
            self._traces.note(call.notes)
        if span is not None:
            # A Fault was recorded above; as an exception it would be recorded twice.
            other = None if isinstance(error, Fault) else error
            span.__exit__(type(other) if other else None, other, other.__traceback__ if other else None)
