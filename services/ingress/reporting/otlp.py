"""Sends finished request traces to an OpenTelemetry collector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from headrace.hop.errors import Code
from services.ingress.reporting.traces import REST
from services.ingress.request_context import new_span_id

# Per batch, retries included. An unreachable collector must delay neither the next traces of the local store nor a stop.
_EXPORT_S = 2.0
# What is called at each service for a prediction.
_METHODS = {
    service: f"headrace.api.{service}.v1.{service.capitalize()}Service/{method}"
    for service, method in {
        "router": "Infer",
        "features": "GetFeatures",
        "preprocessing": "Transform",
        "executor": "Execute",
        "postprocessing": "Format",
    }.items()
}
# The attribute of a stage's span whose call failed as a whole.
_UNANSWERED = "error"
_MODEL = re.compile(r"/models/[^/]+(/versions/[^/]+)?")


class OtlpExporter:
    """Implements `reporter.Exporter`. The door sends the spans of all services, as rows of many requests share their calls; each
    span has the name of the service that did the work."""

    def __init__(self, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_S
        )
        self._resources: dict[str, Resource] = {}

    def write(self, traces: list[Mapping[str, Any]]) -> None:
        """Sends the spans; blocks. Spans that the collector does not accept are lost, and the exporter logs it."""
        self._exporter.export([span for trace in traces for span in self._spans(trace)])

    def _spans(self, trace: Mapping[str, Any]) -> Iterator[ReadableSpan]:
        """By OpenTelemetry's conventions: where the work goes to another service, the caller's span and the callee's."""
        spans, identity = trace["spans"], trace["trace_id"]
        by_id = {span["span_id"]: span for span in spans}
        for span in spans:
            above = by_id.get(span["parent_id"])
            if above is None:
                yield self._span(identity, span, SpanKind.SERVER, **_door(span))
            elif above["service"] == span["service"]:
                yield self._span(identity, span, SpanKind.INTERNAL)
            else:
                called = _called(span)
                # What is inside has the span as its parent, so the new one is the caller's.
                outer = {**span, "span_id": new_span_id(), "service": above["service"]}
                stage = {"headrace.stage": span["name"]} if above is not spans[0] else {}
                yield self._span(identity, outer, SpanKind.CLIENT, **called, **stage)
                if _UNANSWERED in span["attributes"]:
                    continue  # perhaps it never reached the callee
                inner = {**span, **_extent(span, spans), "parent_id": outer["span_id"]}
                yield self._span(identity, inner, SpanKind.SERVER, **called)

    def _span(
        self, trace_id: str, span: Mapping[str, Any], kind: SpanKind, **more: str | int
    ) -> ReadableSpan:
        service = span["service"]
        if service not in self._resources:
            self._resources[service] = Resource.create({"service.name": service})
        start = span["start_unix_us"] * 1000
        parent = _context(trace_id, span["parent_id"]) if span["parent_id"] else None
        failed = span["status"] != "OK"
        return ReadableSpan(
            name=str(more.pop("name", span["name"])),
            context=_context(trace_id, span["span_id"]),
            parent=parent,
            resource=self._resources[service],
            attributes={**span["attributes"], **more},
            kind=kind,
            status=Status(StatusCode.ERROR, span["status"]) if failed else Status(StatusCode.UNSET),
            start_time=start,
            end_time=start + span["duration_us"] * 1000,
        )


def _door(span: Mapping[str, Any]) -> dict[str, str | int]:
    """Name and attributes of the request itself; its own name if the door does not know its path."""
    path = span["attributes"].get("url.path", "")
    if not path:
        return {}
    http: dict[str, str | int] = {
        "http.request.method": "POST",  # as every inference
        "http.response.status_code": int(span["attributes"]["http.response.status_code"]),
    }
    if path.startswith(REST):
        route = _MODEL.sub(lambda m: "/models/{model}" + ("/versions/{version}" if m[1] else ""), path)
        return {**http, "name": f"POST {route}", "http.route": route}
    return {**http, **_rpc(path.removeprefix("/"), Code[span["status"]])}


def _called(span: Mapping[str, Any]) -> dict[str, str | int]:
    """Name and attributes of a call of another service. Rows may fail in a call that is answered."""
    code = Code.OK
    if _UNANSWERED in span["attributes"]:
        # Of a model within a cascade only the reason is known.
        code = Code.UNKNOWN if span["status"] == "OK" else Code[span["status"]]
    method = _METHODS.get(span["service"])
    return _rpc(method, code) if method else {}


def _rpc(method: str, code: Code) -> dict[str, str | int]:
    service, _, name = method.rpartition("/")
    rpc = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    return {"name": method, **rpc, "rpc.grpc.status_code": code.value}


def _extent(span: Mapping[str, Any], spans: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """When the callee began, and how long it took, as far as it says."""
    inside = [s for s in spans if s["parent_id"] == span["span_id"]] or [span]
    start = min(int(s["start_unix_us"]) for s in inside)
    end = max(int(s["start_unix_us"] + s["duration_us"]) for s in inside)
    return {"start_unix_us": start, "duration_us": end - start}


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))
