"""The instruments of stored explanations. Labels hold names of pipelines whose documents demand them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class ExplanationMetrics:
    """Counts what is stored, and its share of what must be."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stored = Counter(
            "headrace_monitoring_explanations",
            "Explanations that were stored.",
            ["pipeline"],
            registry=registry,
        )
        self.coverage = Gauge(
            "headrace_monitoring_explanation_coverage",
            "Explained predictions ÷ those of the last day that must be explained, older than a minute.",
            ["pipeline"],
            registry=registry,
        )
        self.swept = Counter(
            "headrace_monitoring_swept_explanations",
            "Explanations that were removed for their age or number.",
            registry=registry,
        )
