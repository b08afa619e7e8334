"""The counters of retrainings."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class RetrainMetrics:
    """Labels are pipelines with a release, and the causes that there are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._triggers = Counter(
            "headrace_retrain_triggers",
            "Retrainings that were triggered.",
            ("pipeline", "cause"),
            registry=registry,
        )
        self._held = Counter(
            "headrace_retrain_held_back",
            "Triggers held back by their rate limit.",
            ("pipeline",),
            registry=registry,
        )
        self._failures = Counter(
            "headrace_retrain_failures",
            "Triggers whose command or webhook failed.",
            ("pipeline",),
            registry=registry,
        )

    def triggered(self, pipeline: str, cause: str) -> None:
        self._triggers.labels(pipeline, cause).inc()

    def held_back(self, pipeline: str) -> None:
        self._held.labels(pipeline).inc()

    def failed(self, pipeline: str) -> None:
        self._failures.labels(pipeline).inc()
