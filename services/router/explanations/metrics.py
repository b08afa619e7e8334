"""The instruments of explanations. Labels hold names of pipelines and fixed words."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ExplanationMetrics:
    """Counts what was explained, and what was not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self._predictions = counter(
            "headrace_router_explanations",
            "Stored predictions that were to be explained, by what came of them.",
            ["pipeline", "result"],
        )
        self.asked = counter("headrace_router_explanations_asked", "Rows that were explained on request.")
        self.seconds = Histogram(
            "headrace_router_explanation_seconds",
            "Time that the stages worked for one explanation, waits left out.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.unsent = counter(
            "headrace_router_explanations_lost", "Explanations that the monitoring service did not get."
        )

    def predictions(self, pipeline: str, result: str, rows: int = 1) -> None:
        """`result`: `explained`; else why not: `failed`, or the cause of an ExplanationError."""
        self._predictions.labels(pipeline, result).inc(rows)
