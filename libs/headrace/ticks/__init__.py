"""What routers count and report each second, and the buckets of its histograms."""

from headrace.ticks.bins import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    latency_bucket,
    quantile,
    slower_than,
    threshold,
)
from headrace.ticks.tick import (
    ArmFigures,
    ArmName,
    AssignedFigures,
    Tick,
    added,
)

__all__ = [
    "LATENCY_BUCKETS",
    "LATENCY_EDGES_S",
    "ArmFigures",
    "ArmName",
    "AssignedFigures",
    "Tick",
    "added",
    "latency_bucket",
    "quantile",
    "slower_than",
    "threshold",
]
