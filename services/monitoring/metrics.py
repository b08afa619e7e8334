"""The monitoring service's instruments. It has no labels that callers choose."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counts ticks and outcomes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ticks = Counter(
            "headrace_monitoring_ticks", "Ticks of routers that were taken.", registry=registry
        )
        self.routers = Gauge("headrace_monitoring_routers", "Routers that report.", registry=registry)
        self.outcomes = Counter(
            "headrace_monitoring_outcomes", "New outcomes that were stored.", registry=registry
        )
        self.unmatched = Counter(
            "headrace_monitoring_unmatched_outcomes",
            "Outcomes of whose prediction there was no record yet, or never will be.",
            registry=registry,
        )
        self.repeated = Counter(
            "headrace_outcomes_repeated", "Outcomes that came again with the same value.", registry=registry
        )
        self.contradictions = Counter(
            "headrace_outcomes_contradictions",
            "Outcomes with another value than the first of the same prediction and name, which stays.",
            registry=registry,
        )
        self.refused = Counter(
            "headrace_monitoring_refused_outcomes", "Outcomes that could not be stored.", registry=registry
        )
        self.failing = Gauge(
            "headrace_monitoring_storage_failing",
            "1 while the database `facts` can't be read or written.",
            registry=registry,
        )
        self.swept = Counter(
            "headrace_monitoring_swept_rows",
            "Outcomes and predictions removed for their age or number.",
            registry=registry,
        )
