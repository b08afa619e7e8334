"""The objectives of a pipeline as PromQL: how many events there were in a window, and how many of them were bad."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headrace.pipeline import LatencyObjective, Pipeline, Problem
from headrace.slo.levels import LEVELS, PERIOD_S, least_target
from headrace.slo.promql import duration, label

# Upper bounds of `headrace_request_seconds`; a test compares them with the ingress.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AVAILABILITY, LATENCY = "availability", "latency"
_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Slo:
    """One promise of one pipeline: the share `target` of its requests is good, over `period_s` seconds. `slow_ms`: of latency."""

    pipeline: str
    objective: str
    target: float
    period_s: float
    slow_ms: int = 0

    @property
    def budget(self) -> float:
        """Share of the requests that may be bad."""
        return 1 - self.target

    def total(self, window_s: float) -> str:
        """Requests in the window that count. What the caller did wrong counts for nothing."""
        if self.objective == AVAILABILITY:
            return self._sum("headrace_request_seconds_count", 'outcome!="caller"', window_s)
        return self._sum("headrace_request_seconds_count", 'outcome=~"ok|gave_up"', window_s)

    def bad(self, window_s: float) -> str:
        """Those that were bad; 0 if there is no series of them yet."""
        if self.objective == AVAILABILITY:
            # Of inferences only, and one series per pipeline: `increase` does not see the first value of a series.
            failed = self._sum("headrace_request_seconds_count", 'outcome="ours"', window_s)
            return f"({failed} or vector(0))"
        # A caller that gave up counts as slow: no answer came in the time that it had.
        return f"clamp_min({self.total(window_s)} - ({self._fast(window_s)}), 0)"

    def _fast(self, window_s: float) -> str:
        """Requests answered in time. Between two bounds of the histogram it interpolates, as histogram_quantile does."""
        seconds = self.slow_ms / 1000
        at = bisect_left(BUCKETS, seconds)
        if at == len(BUCKETS):
            return self._answered(None, window_s)
        high = self._answered(BUCKETS[at], window_s)
        if BUCKETS[at] == seconds:
            return high
        below = BUCKETS[at - 1] if at else 0.0
        share = (seconds - below) / (BUCKETS[at] - below)
        low = self._answered(below, window_s) if at else "vector(0)"
        return f"{low} * {1 - share:.6g} + {high} * {share:.6g}"

    def _answered(self, bound: float | None, window_s: float) -> str:
        if bound is None:
            found = self._sum("headrace_request_seconds_count", 'outcome="ok"', window_s)
        else:
            # Prometheus 3 writes 1.0 where Prometheus 2 keeps what the service wrote: either is matched.
            text = f"{bound:g}".replace(".", r"\\.") + (r"(\\.0)?" if bound == int(bound) else "")
            found = self._sum("headrace_request_seconds_bucket", f'outcome="ok",le=~"{text}"', window_s)
        return f"({found} or vector(0))"

    def _sum(self, metric: str, matchers: str, window_s: float) -> str:
        return f"sum(increase({metric}{{pipeline={label(self.pipeline)},{matchers}}}[{duration(window_s)}]))"


def slos(pipelines: Iterable[Pipeline], pace: float = 1.0, default: float | None = None) -> list[Slo]:
    """All promises of the documents, in the order of their names. `pace`: periods are divided by it. `default`: the
    availability of a document that promises nothing; None: it has no promise then."""
    return [slo for p in sorted(pipelines, key=lambda p: p.name) for slo in _of(p, pace, default)]


def _of(pipeline: Pipeline, pace: float, default: float | None) -> Iterator[Slo]:
    promised = pipeline.objectives
    if promised is None:
        if default is not None:
            yield Slo(pipeline.name, AVAILABILITY, default, PERIOD_S / pace)
        return
    period_s = promised.window_us / 1e6 / pace
    if promised.availability is not None:
        yield Slo(pipeline.name, AVAILABILITY, promised.availability, period_s)
    if promised.latency is not None:
        latency: LatencyObjective = promised.latency
        yield Slo(pipeline.name, LATENCY, latency.p, period_s, latency.ms)


def problems(pipeline: Pipeline) -> list[Problem]:
    """Promises for which a level could never alert: with `factor × budget` above 1 not even a total outage is fast enough."""
    keys = {AVAILABILITY: "objectives.availability", LATENCY: "objectives.latency.p"}
    return [
        pipeline.source.problem(keys[slo.objective], _never(slo))
        for slo in slos([pipeline])
        if max(level.factor for level in LEVELS) * slo.budget > 1 + _EPSILON
    ]


def _never(slo: Slo) -> str:
    worst = max(level.factor for level in LEVELS)
    return (
        f"with {slo.target:g}, the alert at {worst:g} times the error budget of {slo.budget:.4g} could never fire "
        f"({worst:g} × {slo.budget:.4g} > 1): promise at least {least_target():.4f}"
        + (", or more milliseconds for a larger share" if slo.objective == LATENCY else "")
    )
