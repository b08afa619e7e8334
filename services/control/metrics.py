"""Control's instruments. No label is chosen by callers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """What was changed, what was refused, who follows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.changes = Counter("headrace_control_changes", "Changes that were made.", registry=registry)
        self.refused = Counter(
            "headrace_control_refused_changes", "Changes that were not made.", ["reason"], registry=registry
        )
        self.rollouts = Counter(
            "headrace_rollout_changes",
            "Changes of rollouts that were made by themselves.",
            ("pipeline", "action", "verdict"),
            registry=registry,
        )
        self.failing = Gauge(
            "headrace_control_database_failing", "1 while the database can't be used.", registry=registry
        )
        self.number = Gauge(
            "headrace_control_position", "Number of the newest change that is published.", registry=registry
        )
        self.followers = Gauge(
            "headrace_control_followers",
            "Processes of the data plane that follow this process.",
            ["service"],
            registry=registry,
        )
        self.diverged = Gauge(
            "headrace_control_diverged_followers",
            "Processes of the data plane that have what the database has not; while there are any, no change is accepted.",
            registry=registry,
        )
        self.artifacts_failing = Gauge(
            "headrace_control_artifacts_failing",
            "1 while the artifact store does not get what is published.",
            registry=registry,
        )
