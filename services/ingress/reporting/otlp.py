"""Sends finished request traces to an OpenTelemetry collector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

# Per batch, retries included. An unreachable collector must delay neither the next traces of the local store nor a stop.
_EXPORT_S = 2.0


class OtlpExporter:
    """Implements `reporter.Exporter`. Each span has the name of the service that did the work."""

    def __init__(self, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_S
        )
        self._resources: dict[str, Resource] = {}

    def write(self, traces: list[Mapping[str, Any]]) -> None:
        """Sends the spans; blocks. Spans that the collector does not accept are lost, and the exporter logs it."""
        self._exporter.export([self._span(t["trace_id"], s) for t in traces for s in t["spans"]])

    def _span(self, trace_id: str, span: Mapping[str, Any]) -> ReadableSpan:
        service = span["service"]
        if service not in self._resources:
            self._resources[service] = Resource.create({"service.name": service})
        start = span["start_unix_us"] * 1000
        parent = _context(trace_id, span["parent_id"]) if span["parent_id"] else None
        failed = span["status"] != "OK"
        return ReadableSpan(
            name=span["name"],
            context=_context(trace_id, span["span_id"]),
            parent=parent,
            resource=self._resources[service],
            attributes=span["attributes"],
            status=Status(StatusCode.ERROR, span["status"]) if failed else Status(StatusCode.UNSET),
            start_time=start,
            end_time=start + span["duration_us"] * 1000,
        )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))
