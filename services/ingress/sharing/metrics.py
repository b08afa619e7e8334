"""What is told of limits that doors share."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Gauge


class ShareMetrics:
    """Instruments in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        self.alone = gauge(
            "headrace_quota_alone",
            "1 while this door can't share limits of tenants with the others, so that it has its part of each; else 0.",
        )
        self.refused = gauge(
            "headrace_quota_refused_tenants",
            "Tenants whose limits alone can't be shared, as Redis holds something else for them.",
        )
        self.doors = gauge(
            "headrace_quota_doors", "Doors that share limits, as last heard, this one included."
        )
