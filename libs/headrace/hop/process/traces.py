"""OpenTelemetry of one process. Imported only if tracing is on, because it is large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

# These get no span. The door makes the spans of its own calls.
_UNTRACED = (
    "/grpc.health.",
    "/grpc.reflection.",
    "/grpc.channelz.",
    "/headrace.api.inference.",
    "/inference.",
)
# The lowest bit of a traceparent's flags; others may be set, too.
_SAMPLED = tuple("13579bdf")
# Per batch, retries included. An unreachable collector must not delay the end of a process.
_EXPORT_S = 2.0


class Traces:
    """Spans of the gRPC calls whose callers sample them, and their export.

    A hop client has none: many requests share its calls, so the door makes the spans of each of them afterwards, for all
    services (services/ingress/reporting/otlp.py).
    """

    def __init__(
        self, service: str, version: str, endpoint: str, exporter: SpanExporter | None = None
    ) -> None:
        self.provider = TracerProvider(
            resource=Resource.create({"service.name": service, "service.version": version}),
            shutdown_on_exit=False,  # hop closes it, after the last call's span has ended
        )
        if endpoint and exporter is None:
            insecure = not endpoint.startswith("https://")
            exporter = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=_EXPORT_S)
        if exporter is not None:
            self.provider.add_span_processor(BatchSpanProcessor(exporter))

    def server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Makes the spans of gRPC calls."""
        make: Any = aio_server_interceptor  # untyped
        return [make(tracer_provider=self.provider, filter_=_wanted)]

    def mark(self, code: int, reason: str, message: str) -> None:
        """Records a failure on the current span. `code`: as in google.rpc.Code."""
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", code)
            span.set_attribute("headrace.reason", reason)
            span.set_status(trace.StatusCode.ERROR, message)

    def note(self, attributes: Mapping[str, str | int]) -> None:
        """Adds to the current span."""
        trace.get_current_span().set_attributes(attributes)

    def current_ids(self) -> dict[str, str]:
        """`trace_id` and `span_id` of the current span, for log lines; empty outside a sampled span."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid or not context.trace_flags.sampled:
            return {}
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def close(self) -> None:
        """Exports the rest and stops."""
        self.provider.shutdown()


def _wanted(details: grpc.HandlerCallDetails) -> bool:
    """Whether the caller has a span that is sampled: a call without one would be the root of a trace that nobody asked for."""
    if details.method.startswith(_UNTRACED):
        return False
    for key, value in details.invocation_metadata:
        if key == "traceparent":
            return isinstance(value, str) and value.endswith(_SAMPLED)
    return False
