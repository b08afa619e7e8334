"""Spans of a client's calls. Imported only if tracing is on, because OpenTelemetry is large.

Only a call within a sampled span gets one. A call that carries rows gets none: many requests share it, so the door makes the
spans of each of them afterwards, for all services (services/ingress/reporting/otlp.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider

from headrace.hop.client.outgoing import Outgoing
from headrace.hop.process.traces import rpc


class ClientTraces:
    """Makes the spans of one client's calls."""

    def __init__(self, callee: str, provider: TracerProvider) -> None:
        self._callee = callee
        self._tracer = provider.get_tracer("headrace.hop")

    def span(self, out: Outgoing) -> AbstractContextManager[trace.Span] | None:
        """The call's span, current while open: it covers retries and waiting. None if the call is in no sampled span."""
        if out.shared or not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        name, attributes = rpc(out.method.path)
        return self._tracer.start_as_current_span(
            name, kind=trace.SpanKind.CLIENT, attributes={**attributes, "headrace.callee": self._callee}
        )

    def context(self) -> list[tuple[str, str]]:
        """The current span as metadata, for the callee."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return list(carrier.items())
