"""What is recorded about each finished request: metrics, a log line, the protocol's statistics, its trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from headrace.columns import Timing
from headrace.hop import limiters
from headrace.hop.errors import Code, Reason, reason_name
from headrace.hop.resilience.limiter import TokenBucket
from services.ingress.admission.quota_abuse import QuotaAbuse
from services.ingress.inference import InferenceResult, InferenceShare
from services.ingress.reporting import traces as tracing
from services.ingress.reporting.metrics import Metrics, Shed, is_ours
from services.ingress.reporting.security_log import SecurityLog
from services.ingress.request_context import RequestContext, chance

_KEPT = 2000
# So many successes are added to a pipeline's counts at once.
_SUMMED = 256
_SECURITY_LINES_PER_S = 20.0
# Limit for requests that failed because of overload or a deadline. There may be thousands per second when CPU time is scarce.
_OVERLOAD_LINES_PER_S = 50.0
_OVERLOAD = frozenset({Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE})


@dataclass(slots=True)
class PipelineCounts:
    """Counts of one pipeline; times are sums in seconds. `executions`: each batch of the router counts as 1, divided among the
    requests in it."""

    successes: int = 0
    success_s: float = 0.0
    failures: int = 0
    fail_s: float = 0.0
    # Parts of the time of the successes.
    queue_s: float = 0.0
    compute_input_s: float = 0.0
    compute_infer_s: float = 0.0
    compute_output_s: float = 0.0
    rows: int = 0
    executions: float = 0.0
    last_ms: int = 0
    # Successes that are not in these sums yet: rows, rows of the largest batch, µs inside the router, seconds until the router,
    # in it, and in all, and when it ended.
    pending: list[tuple[float, ...]] = field(default_factory=list)

    def add_pending(self) -> None:
        if not self.pending:
            return
        rows, most, inside_us, start_s, router_s, total_s, ended = np.array(self.pending).T
        inside_s = inside_us / 1e6
        self.successes += len(self.pending)
        self.success_s += float(total_s.sum())
        # Time outside the router's stages was spent waiting for the previous batch and in transport.
        self.queue_s += float(np.maximum(router_s - inside_s, 0.0).sum())
        self.compute_input_s += float(start_s.sum())
        self.compute_infer_s += float(np.minimum(inside_s, router_s).sum())
        self.compute_output_s += float(np.maximum(total_s - start_s - router_s, 0.0).sum())
        self.rows += int(rows.sum())
        self.executions += float((rows / np.maximum(most, rows)).sum())
        self.last_ms = int(ended[-1] * 1000)
        self.pending.clear()


class Statistics:
    """What the protocol's ModelStatistics reports: counts and times by pipeline since the process began. `clock`: seconds since
    the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pipelines: dict[str, PipelineCounts] = {}
        # Cache: the timings seen last (requests of one batch share them), their largest batch, and their end (µs).
        self._timings: Sequence[Timing] = ()
        self._seen = 0, 0

    def of(self, pipeline: str) -> PipelineCounts:
        """The counts of a pipeline (known names only, so the table is bounded)."""
        found = self._pipelines.get(pipeline)
        if found is None:
            found = self._pipelines[pipeline] = PipelineCounts()
        found.add_pending()
        return found

    def success(self, answer: InferenceResult | InferenceShare, total_s: float) -> None:
        """A request that was answered after `total_s`."""
        name = answer.entry.pipeline.name
        counts = self._pipelines.get(name) or self.of(name)
        most, inside_us = self._look(answer.timings)
        start_s, router_s = answer.router_start_s, answer.router_s
        counts.pending.append((answer.rows, most, inside_us, start_s, router_s, total_s, self._clock()))
        if len(counts.pending) >= _SUMMED:
            counts.add_pending()

    def _look(self, timings: Sequence[Timing]) -> tuple[int, int]:
        if timings is not self._timings:
            most = max([t.row_count for t in timings], default=0)
            end = max([t.start_us + t.duration_us for t in timings], default=0)
            self._timings, self._seen = timings, (most, end)
        return self._seen

    def fail(self, pipeline: str, total_s: float) -> None:
        """A request for a known pipeline that failed."""
        counts = self.of(pipeline)
        counts.failures += 1
        counts.fail_s += total_s


class Exporter(Protocol):
    """Receives finished traces. It blocks, so it is called in a thread."""

    def write(self, traces: list[Mapping[str, Any]]) -> None: ...


class Reporter:
    """Records requests. `clock`: monotonic seconds; `wall`: seconds since the epoch."""

    def __init__(
        self,
        log: Any,
        metrics: Metrics,
        statistics: Statistics,
        exporters: list[Exporter],
        security: SecurityLog,
        *,
        log_ratio: float,
        slow_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.metrics = metrics
        self._log, self._statistics, self._exporters = log, statistics, exporters
        self._security = security
        self._log_ratio, self._slow_s = log_ratio, slow_s
        self._clock, self._wall = clock, wall
        self._lines = TokenBucket(_SECURITY_LINES_PER_S, _SECURITY_LINES_PER_S, clock())
        self._overload_lines = TokenBucket(_OVERLOAD_LINES_PER_S, _OVERLOAD_LINES_PER_S, clock())
        self._abuse = QuotaAbuse(clock)
        self._pending: list[Mapping[str, Any]] = []

    def done(self, context: RequestContext) -> None:
        """One request has ended; its outcome is in `context.fault`."""
        seconds = self._clock() - context.received
        fault, answer = context.fault, context.result
        code = Code.OK if fault is None else fault.code
        self.metrics.done(context, code, seconds)
        if fault is None:
            if answer is not None and context.inference and context.pipeline:
                self._statistics.success(answer, seconds)
        else:
            if fault.reason == Reason.REASON_QUOTA_EXCEEDED:
                self._over_quota(context, 1, {limiters.KEY: fault.metadata.get(limiters.KEY, "")})
            if context.inference and context.pipeline:
                self._statistics.fail(context.pipeline, seconds)
            quiet = code in _OVERLOAD and not context.trace.sampled
            if quiet and self._overload_lines.take(self._clock()) > 0:
                return  # it is counted; a log line and a trace would cost more than the refusal
        if fault is not None or (self._log_ratio and chance(self._log_ratio)):
            self._line(context, code, seconds)
        broken = fault is not None or (answer is not None and bool(answer.errors))
        wanted = context.trace.sampled or broken or seconds >= self._slow_s
        if wanted and context.inference and context.credential is not None and self._exporters:
            self._keep(context, seconds)

    def shed(self, context: RequestContext, shed: Shed) -> None:
        """Envoy has refused calls of this caller without asking."""
        self.metrics.shed(context.tenant, shed)
        if shed.reason == Reason.REASON_QUOTA_EXCEEDED:
            self._over_quota(context, shed.calls, {})

    def _over_quota(self, context: RequestContext, calls: int, details: Mapping[str, str]) -> None:
        if count := self._abuse.refused(context.tenant, calls):
            self.security("quota_abuse", context, {"refused": str(count), **details})

    def _line(self, context: RequestContext, code: Code, seconds: float) -> None:
        fields: dict[str, Any] = {
            "request_id": context.request_id,
            "trace_id": context.trace.trace_id,
            "method": context.method,
            "tenant": context.tenant,
            "pipeline": context.pipeline,
            "code": code.name,
            "duration_ms": round(seconds * 1000, 3),
        }
        if context.client_id:
            fields["client_request_id"] = context.client_id
        if context.original_request_id:
            fields["original_request_id"] = context.original_request_id
        fault = context.fault
        if fault is None:
            self._log.info("request", **fields)
            return
        # Unauthenticated callers could fill our disk, so the number of these log lines is limited (the counter is not).
        if context.credential is None and self._lines.take(self._clock()) > 0:
            return
        fields |= {"reason": reason_name(fault.reason), "message": fault.message}
        if limiters.KEY in fault.metadata:
            fields[limiters.KEY] = fault.metadata[limiters.KEY]
        tell = self._log.error if is_ours(fault, context) else self._log.info
        tell("request", **fields)

    def security(self, kind: str, context: RequestContext, details: Mapping[str, str]) -> None:
        """A credential was refused, or a caller tried something that it may not do."""
        self.metrics.security_event(kind)
        self._security.add(kind, context, details)
        if self._lines.take(self._clock()) == 0:
            told = {**details, "kind": kind, "request_id": context.request_id}
            if context.tenant:
                told["tenant"] = context.tenant
            self._log.warning("security", **told)

    def unexpected(self, method: str, error: Exception, request_id: str) -> None:
        """A bug: the stack trace goes into our log, never to the caller."""
        self._log.error("unexpected", request_id=request_id, method=method, exc_info=error)

    def _keep(self, context: RequestContext, seconds: float) -> None:
        # The buffer is bounded and written at intervals. If there are too many failures, the newest traces are dropped.
        if len(self._pending) < _KEPT:
            start = int((self._wall() - seconds) * 1e6)
            self._pending.append(tracing.record(context, start, int(seconds * 1e6)))

    async def flush(self) -> None:
        """Passes finished traces to the exporters, in a thread."""
        traces, self._pending = self._pending, []
        if not traces:
            return
        for exporter in self._exporters:
            try:
                await asyncio.to_thread(exporter.write, traces)
            except OSError as error:
                self._log.warning("traces lost", count=len(traces), error=type(error).__name__)
