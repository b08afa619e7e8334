"""A collector of OpenTelemetry spans: a real gRPC server of its TraceService, which keeps what it is sent."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc
from opentelemetry.proto.trace.v1 import trace_pb2 as pb_trace


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it came: `service` is its resource's; identities in hexadecimal, `parent` "" if it has none."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    # SERVER, CLIENT or INTERNAL.
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    # "ERROR" or "", and what goes with it.
    status: str
    message: str


class Collector(pb_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        add: Any = pb_grpc.add_TraceServiceServicer_to_server  # untyped
        add(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """One that listens on `port` of the loopback interface."""
        collector = cls()
        collector._server.start()
        try:
            yield collector
        finally:
            collector.stop()

    def stop(self) -> None:
        """Listens no more."""
        self._server.stop(None).wait()

    def Export(
        self, request: pb.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        found = [
            Span(
                _values(group.resource.attributes)["service.name"],
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                pb_trace.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                _values(span.attributes),
                "ERROR" if span.status.code == span.status.STATUS_CODE_ERROR else "",
                span.status.message,
            )
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += found
        return pb.ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace that have come so far."""
        with self._lock:
            return [span for span in self._spans if span.trace == trace]


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "string_value") for a in attributes}
