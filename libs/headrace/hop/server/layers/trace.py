"""The server's side of a span: OpenTelemetry's own over gRPC, one of ours for a call inside the process."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from headrace.hop.call import Call
from headrace.hop.errors import Fault, reason_name

if TYPE_CHECKING:
    from headrace.hop.process.telemetry import Telemetry


class Trace:
    """Notes the reason of a failure, and what the servicer notes, on the call's span. A local call's span begins
    here; a gRPC call's was begun by OpenTelemetry's interceptor. With tracing off the layer does nothing."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._traces = telemetry.traces

    def around(self, call: Call) -> _Nothing | _Around:
        return _NOTHING if self._traces is None else _Around(self._traces, call)


class _Nothing:
    __slots__ = ()

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING = _Nothing()


class _Around:
    __slots__ = ("_call", "_span", "_traces")

    def __init__(self, traces: Any, call: Call) -> None:
        self._traces = traces
        self._call = call
        self._span: Any = None

    async def __aenter__(self) -> None:
        if self._call.peer.transport == "local":
            self._span = self._traces.local_span(self._call)
            self._span.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Fault):
            self._traces.mark(error.code.name, reason_name(error.reason), error.message)
        if self._call.notes:
            self._traces.note(self._call.notes)
        if self._span is not None:
            # A Fault is an answer, marked above; recording it as an exception too would say it twice.
            known = isinstance(error, Fault)
            self._span.__exit__(None if known else kind, None if known else error, None if known else trace)
