"""The door's own metrics. Label values come from the documents of pipelines and tenants, so their number is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Gauge

from headrace.columns import RowError
from headrace.hop import limiters
from headrace.hop.errors import OUR_CODES, Blame, Code, Fault, Reason
from headrace.hop.errors import blame as blamed
from headrace.hop.limiters import LIMITERS
from headrace.hop.metrics import Counter, Histogram
from headrace.pipeline import Pipeline
from services.ingress.reporting.objectives import Counted, ObjectiveCounts
from services.ingress.request_context import RequestContext

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The caller stopped waiting: its own deadline passed, or it disconnected. Neither is our failure, but both indicate latency.
_GIVEN_UP = frozenset({Code.DEADLINE_EXCEEDED, Code.CANCELLED})
_OK, _OURS, _GAVE_UP = "ok", "ours", "gave_up"
# Of the requests that ended alike, and of inferences: their times, the rows of those that were answered, their outcome, and the
# objectives of their pipeline.
_Children: TypeAlias = tuple[Counter, Histogram | None, Counter | None, str, tuple[Counted, ...]]


@dataclass(frozen=True, slots=True)
class Shed:
    """Calls of one credential that Envoy refused by itself: it repeated a refusal of ours, which had this reason."""

    calls: int
    reason: Reason


class Metrics:
    """Instruments in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._requests = counter(
            "headrace_ingress_requests_total",
            "Requests by how they ended. fault: none, caller (their doing) or ours (counts against availability).",
            ["pipeline", "tenant", "code", "fault"],
        )
        self._seconds = Histogram(
            "headrace_request_seconds",
            "Time from the arrival of an inference to its answer. outcome: ok, ours (we failed), caller (their "
            "mistake), gave_up (the caller waited no longer).",
            ["pipeline", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._objectives = ObjectiveCounts(registry)
        self._rows = counter("headrace_ingress_rows_total", "Rows answered.", ["pipeline"])
        self.in_flight = gauge("headrace_ingress_in_flight", "Requests that are being served.")
        self.limit = gauge("headrace_ingress_limit", "Inferences that may be on their way at once, now.")
        self.tenants_broken = gauge(
            "headrace_ingress_tenants_broken",
            "1 while a tenant or key can't be used as control has it and the last good one is in force.",
        )
        self._shed = counter(
            "headrace_ingress_shed_total",
            "Requests among the refused that Envoy refused without asking the application; fault: as there.",
            ["tenant", "fault"],
        )
        self._refusals = counter(
            "headrace_ingress_refusals_total",
            "Requests refused by a limiter, whichever service it is in; without those that Envoy refused by itself.",
            ["limiter"],
        )
        self._certificate_ends = gauge(
            "headrace_ingress_certificate_end_seconds",
            "When the certificate that is served, or the last CA of clients, ends, in seconds since the epoch; 0: there is none.",
            ["secret"],
        )
        self._certificate_refused = gauge(
            "headrace_ingress_certificate_refused",
            "1 while the files of the certificate, or of the clients' CA, are unusable and the last good ones are in use.",
            ["secret"],
        )
        self._events = counter(
            "headrace_ingress_security_events_total",
            "Refused credentials, forbidden requests, and what else the security log tells of.",
            ["kind"],
        )
        self.security_failing = gauge(
            "headrace_ingress_security_log_failing",
            "1 while the file of security events can't be written, else 0.",
        )
        # Looking up a child by its labels costs more than counting, so children are cached. There are few of them.
        self._children: dict[tuple[str, str, Code, bool, bool], _Children] = {}

    def follow(self, pipelines: Iterable[Pipeline]) -> None:
        """Counts by the objectives of these documents from now on."""
        self._objectives.follow(pipelines)
        self._children.clear()

    def security_event(self, kind: str) -> None:
        """Counts one security event."""
        self._events.labels(kind).inc()

    def certificate(self, name: str, ends: float, *, refused: bool) -> None:
        """What is served of a secret of the TLS listener ends at this time (seconds since the epoch; 0: none is). `refused`: its
        newer files are unusable."""
        self._certificate_ends.labels(name).set(ends)
        self._certificate_refused.labels(name).set(refused)

    def shed(self, tenant: str, shed: Shed) -> None:
        """Counts calls that Envoy refused, in the same way as calls refused by the application."""
        fault = "ours" if blamed(shed.reason) is Blame.OURS else "caller"
        self._requests.labels("", tenant, Code.RESOURCE_EXHAUSTED.name, fault).inc(shed.calls)
        self._shed.labels(tenant, fault).inc(shed.calls)

    def done(self, context: RequestContext, code: Code, seconds: float) -> None:
        """Counts one finished request. Its pipeline and tenant are names from our documents, or ""."""
        fault, answer = context.fault, context.result
        if fault is not None:
            ours = is_ours(fault, context)
            if (limiter := fault.metadata.get(limiters.KEY)) in LIMITERS:
                self._refusals.labels(limiter).inc()
        else:
            ours = answer is not None and bool(answer.errors) and _failed_by_us(answer.errors, context)
        key = context.pipeline, context.tenant, code, ours, context.inference
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = self._of(*key)
        requests, timer, rows, outcome, objectives = children
        requests.inc()
        if timer is not None:
            timer.observe(seconds)
            for one in objectives:
                if outcome is not _OK:
                    _count_failure(one, outcome)
                    continue
                one.requests += 1
                if seconds > one.slow_s:
                    one.bad += 1
            if rows is not None and answer is not None:
                rows.inc(answer.rows)

    def _of(self, pipeline: str, tenant: str, code: Code, ours: bool, inference: bool) -> _Children:
        label = "ours" if ours else "none" if code is Code.OK else "caller"
        requests = self._requests.labels(pipeline, tenant, code.name, label)
        if not inference:
            return requests, None, None, "", ()
        outcome = _outcome(code, ours)
        timer = self._seconds.labels(pipeline, outcome)
        rows = self._rows.labels(pipeline) if code is Code.OK else None
        return requests, timer, rows, outcome, self._objectives.of.get(pipeline, ())


def _count_failure(one: Counted, outcome: str) -> None:
    """What a caller did wrong counts for nothing. Availability: failures of ours, of all others. Latency: late answers and
    callers that gave up, of all that were answered or given up."""
    if outcome == _GAVE_UP or (outcome == _OURS and not one.is_latency):
        one.requests += 1
        one.bad += one.is_latency or outcome == _OURS


def is_ours(fault: Fault, context: RequestContext) -> bool:
    """Whether a failure is our fault. It is not if the caller set too short a deadline."""
    if fault.code is Code.DEADLINE_EXCEEDED:
        return context.deadline_is_ours
    if fault.code in OUR_CODES:
        return True
    blame = blamed(fault.reason)
    return blame is Blame.OURS or (blame is Blame.OURS_IN_PREDICTIONS and context.inference)


def _failed_by_us(errors: Mapping[int, RowError], context: RequestContext) -> bool:
    """Whether a request that was answered has a row that failed by our fault: it did not get all that it asked for."""
    return any(is_ours(error.fault(), context) for error in errors.values())


def _outcome(code: Code, ours: bool) -> str:
    if ours:
        return _OURS
    if code is Code.OK:
        return _OK
    return _GAVE_UP if code in _GIVEN_UP else "caller"
