"""Good and bad requests by pipeline and objective of its document: what the rules of deploy/alerts are about.

Every series begins with 0 when its pipeline is known, as Prometheus sees no increase in the first value of a series, and ends
with the pipeline or the objective.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.pipeline import Pipeline
from headrace.slo import LATENCY, Slo, slos

OK, OURS, GAVE_UP = "ok", "ours", "gave_up"


@dataclass(slots=True)
class _Counted:
    """`slow_s`: a good answer takes no longer."""

    slo: Slo
    slow_s: float
    requests: int = 0
    bad: int = 0


class ObjectiveCounts(Collector):
    """What a caller did wrong counts for nothing. Availability: failures of ours, of all others. Latency: late answers and
    callers that gave up, of all that were answered or given up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counted: Mapping[str, tuple[_Counted, ...]] = {}
        registry.register(self)

    def follow(self, pipelines: Iterable[Pipeline]) -> None:
        """Counts for these documents from now on."""
        before = {(c.slo.pipeline, c.slo.objective): c for c in self._all()}
        self._counted = {p.name: tuple(_continued(slo, before) for slo in slos(p)) for p in pipelines}

    def count(self, pipeline: str, outcome: str, seconds: float) -> None:
        """One inference; outcomes are those of `headrace_request_seconds`."""
        for one in self._counted.get(pipeline, ()):
            if outcome == OK:
                one.requests += 1
                if seconds > one.slow_s:
                    one.bad += 1
            elif outcome == GAVE_UP:
                one.requests += 1
                one.bad += one.slo.objective == LATENCY
            elif outcome == OURS and one.slo.objective != LATENCY:
                one.requests += 1
                one.bad += 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        labels = ["pipeline", "objective"]
        requests = CounterMetricFamily(
            "headrace_objective_requests", "Requests that an objective counts.", labels=labels
        )
        bad = CounterMetricFamily("headrace_objective_bad", "Those of them that were bad.", labels=labels)
        target = GaugeMetricFamily(
            "headrace_objective_target",
            "Share of the requests that is to be good, within a period of so many seconds.",
            labels=[*labels, "period_s"],
        )
        for one in self._all():
            names = [one.slo.pipeline, one.slo.objective]
            requests.add_metric(names, one.requests)
            bad.add_metric(names, one.bad)
            target.add_metric([*names, f"{one.slo.period_s:.0f}"], one.slo.target)
        return iter((requests, bad, target))

    def _all(self) -> list[_Counted]:
        return [one for counted in self._counted.values() for one in counted]


def _continued(slo: Slo, before: Mapping[tuple[str, str], _Counted]) -> _Counted:
    old = before.get((slo.pipeline, slo.objective))
    slow_s = slo.slow_ms / 1000 if slo.objective == LATENCY else float("inf")
    return _Counted(slo, slow_s, old.requests, old.bad) if old else _Counted(slo, slow_s)
