"""The door's own instruments. Labels come from the pipelines' and tenants' documents, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headrace.hop.errors import Code
from services.ingress.exchange import Exchange

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Codes that count against us; all else is the caller's doing. Quota is the caller's, overload is ours.
_OURS = frozenset({Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS})


class Metrics:
    """Instruments in one registry. `headrace_request_seconds` is the latency objective (M1) of each pipeline."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "headrace_ingress_requests_total",
            "Requests by outcome. fault: none, caller (their doing) or ours (counts against availability).",
            ["pipeline", "tenant", "code", "fault"],
            registry=registry,
        )
        self._seconds = Histogram(
            "headrace_request_seconds",
            "Time from the request's arrival to its answer, successful inferences only.",
            ["pipeline"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Counter("headrace_ingress_rows_total", "Rows answered.", ["pipeline"], registry=registry)
        self.in_flight = Gauge(
            "headrace_ingress_in_flight", "Requests that are being served.", registry=registry
        )
        self.limit = Gauge(
            "headrace_ingress_limit", "Inferences that may be on their way at once, now.", registry=registry
        )
        self.certificate_ends = Gauge(
            "headrace_ingress_certificate_end_seconds",
            "When the certificate that is served ends, in seconds since the epoch; 0: there is none.",
            registry=registry,
        )
        self._security = Counter(
            "headrace_ingress_security_events_total",
            "Refused credentials and forbidden requests.",
            ["kind"],
            registry=registry,
        )
        self._shed = Counter(
            "headrace_ingress_shed_total",
            "Requests among the refused that Envoy refused without asking the application.",
            ["tenant"],
            registry=registry,
        )
        # Looking a child up by label costs more than counting; these are few.
        self._children: dict[tuple[str, str, Code, bool], Counter] = {}
        self._timers: dict[str, tuple[Histogram, Counter]] = {}

    def security(self, kind: str) -> None:
        """Counts one security event."""
        self._security.labels(kind).inc()

    def shed(self, tenant: str, calls: int) -> None:
        """Counts calls that were refused before they came here: as we would have counted them."""
        self._requests.labels("", tenant, Code.RESOURCE_EXHAUSTED.name, "caller").inc(calls)
        self._shed.labels(tenant).inc(calls)

    def done(self, exchange: Exchange, code: Code, seconds: float) -> None:
        """Counts one finished request. Its pipeline and tenant are names from our documents, or ""."""
        ours = code is not Code.OK and is_ours(code, exchange)
        key = (exchange.pipeline, exchange.tenant, code, ours)
        child = self._children.get(key)
        if child is None:
            fault = "none" if code is Code.OK else "ours" if ours else "caller"
            child = self._children[key] = self._requests.labels(*key[:2], code.name, fault)
        child.inc()
        answer = exchange.answer
        if code is Code.OK and answer is not None:
            timers = self._timers.get(exchange.pipeline)
            if timers is None:
                name = exchange.pipeline
                timers = self._timers[name] = self._seconds.labels(name), self._rows.labels(name)
            timers[0].observe(seconds)
            timers[1].inc(len(answer.batch))


def is_ours(code: Code, exchange: Exchange) -> bool:
    """Whether a failure is our doing; time that the caller made too short is not, once it was too short to try."""
    if code is Code.DEADLINE_EXCEEDED:
        return exchange.deadline_is_ours
    return code in _OURS
