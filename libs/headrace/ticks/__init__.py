"""What routers count and report each second, and the buckets of its histograms."""

from headrace.ticks.bins import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    OUTPUT_BUCKETS,
    OUTPUT_EDGES,
    latency_bucket,
    output_counts,
    quantile,
    slower_than,
    threshold,
)
from headrace.ticks.tick import (
    ArmFigures,
    ArmName,
    AssignedFigures,
    Exposure,
    OutputFigures,
    Tick,
    added,
)

__all__ = [
    "LATENCY_BUCKETS",
    "LATENCY_EDGES_S",
    "OUTPUT_BUCKETS",
    "OUTPUT_EDGES",
    "ArmFigures",
    "ArmName",
    "AssignedFigures",
    "Exposure",
    "OutputFigures",
    "Tick",
    "added",
    "latency_bucket",
    "output_counts",
    "quantile",
    "slower_than",
    "threshold",
]
