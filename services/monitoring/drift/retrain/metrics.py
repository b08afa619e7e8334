"""The counters of retrainings."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter


class RetrainMetrics:
    """Labels are pipelines with a release, and the causes that there are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self.triggers = counter(
            "headrace_retrain_triggers", "Retrainings that were triggered.", ["pipeline", "cause"]
        )
        self.held = counter(
            "headrace_retrain_held_back", "Triggers held back by their rate limit.", ["pipeline"]
        )
        self.failures = counter(
            "headrace_retrain_failures", "Triggers whose command or webhook failed.", ["pipeline"]
        )
