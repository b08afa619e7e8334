"""Spans of a client's calls. Imported only if tracing is on, because OpenTelemetry is large.

A call without a sampled request gets no span and costs nothing. A call with one gets two kinds: ours covers retries
and waiting and links all sampled rows; OpenTelemetry's gRPC instrumentation makes one per attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import grpc.aio
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.trace import TracerProvider

from headrace.hop.client.outgoing import Outgoing

# A batch may have hundreds of sampled rows; nobody reads a span with more links than this.
_MAX_LINKS = 64


class ClientTraces:
    """Makes the spans of one client's calls."""

    def __init__(self, callee: str, provider: TracerProvider) -> None:
        self._callee = callee
        self._tracer = provider.get_tracer("headrace.hop")
        make: Callable[..., Sequence[grpc.aio.UnaryUnaryClientInterceptor]] = aio_client_interceptors
        self._interceptor = make(tracer_provider=provider)[0]

    def span(self, out: Outgoing) -> AbstractContextManager[trace.Span] | None:
        """The call's span, current while open; None if no sampled request is in the call."""
        carried = out.traceparents()
        if carried is None:
            if not trace.get_current_span().get_span_context().trace_flags.sampled:
                return None
            return self._start(out, None, ())
        # The last character holds the flags' lowest bit: sampled or not.
        sampled = [t for t in carried if t and t[-1] in "13579bdf"]
        if not sampled:
            return None
        contexts = [_parse(t) for t in dict.fromkeys(sampled[:_MAX_LINKS])]
        links = [trace.Link(trace.get_current_span(c).get_span_context()) for c in contexts]
        # The span belongs to the first row's trace; the other traces are linked.
        return self._start(out, contexts[0], links)

    def _start(
        self, out: Outgoing, parent: Context | None, links: Sequence[trace.Link]
    ) -> AbstractContextManager[trace.Span]:
        return self._tracer.start_as_current_span(
            f"{self._callee}/{out.method.name}",
            context=parent,
            links=links,
            attributes={"headrace.callee": self._callee, "headrace.rows": out.rows},
        )

    async def rpc(
        self,
        stub: Callable[..., Any],
        data: bytes,
        path: str,
        timeout: float,
        metadata: Sequence[tuple[str, str]],
    ) -> Any:
        """The attempt's gRPC call, begun inside OpenTelemetry's interceptor, which adds `traceparent` to it."""

        async def proceed(details: grpc.aio.ClientCallDetails, request: bytes) -> Any:
            return stub(request, timeout=details.timeout, metadata=details.metadata)

        details = grpc.aio.ClientCallDetails(path, timeout, grpc.aio.Metadata(*metadata), None, None)
        return await self._interceptor.intercept_unary_unary(proceed, details, data)

    def context(self) -> list[tuple[str, str]]:
        """The current span as metadata, for a callee in this process."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return list(carrier.items())


def _parse(traceparent: str) -> Context:
    return propagate.extract({"traceparent": traceparent})
