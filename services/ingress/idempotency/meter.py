"""What is counted about calls with an idempotency key."""

from __future__ import annotations

from enum import Enum

from prometheus_client import CollectorRegistry, Counter


class Ending(Enum):
    """How a call with a key ended."""

    KEPT = "kept"  # it ran, and its outcome is kept
    REPLAYED = "replayed"
    NOT_KEPT = "not_kept"  # it ran, and failed through our fault
    LOST = "lost"  # it ran and was answered, but the store could not keep its outcome
    REUSED = "reused"  # the key belongs to another call
    IN_USE = "in_use"
    FULL = "full"
    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"  # something else is kept at the key, or another version wrote it


class KeyMetrics:
    """Counts calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "headrace_ingress_idempotent_calls",
            "Calls with an idempotency key, by how they ended.",
            ["ending"],
            registry=registry,
        )

    def ended(self, ending: Ending) -> None:
        self._calls.labels(ending.value).inc()
