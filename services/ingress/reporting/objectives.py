"""Good and bad requests by pipeline and objective of its document: what the rules of `headrace.slo` are about.

Every series begins with 0 when its pipeline is known, as Prometheus sees no increase in the first value of a series, and ends
with the pipeline or the objective.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.pipeline import Pipeline
from headrace.slo import LATENCY, Slo, slos


class Counted:
    """What is counted of one objective; goes on with the counts `before`."""

    def __init__(self, slo: Slo, before: Counted | None) -> None:
        self.slo = slo
        self.is_latency = slo.objective == LATENCY
        self.slow_s = slo.slow_ms / 1000 if self.is_latency else math.inf
        self.requests: int = before.requests if before else 0
        self.bad: int = before.bad if before else 0


class ObjectiveCounts(Collector):
    """`of`: by pipeline, what is counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.of: Mapping[str, tuple[Counted, ...]] = {}
        registry.register(self)

    def follow(self, pipelines: Iterable[Pipeline]) -> None:
        """Counts for these documents from now on."""
        before = {(c.slo.pipeline, c.slo.objective): c for c in self._all()}
        self.of = {
            p.name: tuple(Counted(s, before.get((s.pipeline, s.objective))) for s in slos(p))
            for p in pipelines
        }

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

    def _all(self) -> list[Counted]:
        return [one for counted in self.of.values() for one in counted]
