"""What is left of error budgets, for dashboards: Prometheus itself keeps too little to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class AlertMetrics(Collector):
    """`left`: by pipeline and objective; what is not in it has no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.left: Mapping[tuple[str, str], float] = {}
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "headrace_objective_budget_left",
            "Share of the error budget of its period that is left; below 0 the promise is broken.",
            labels=["pipeline", "objective"],
        )
        for name, left in self.left.items():
            family.add_metric(name, left)
        yield family
