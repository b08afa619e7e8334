"""Slow rows from cumulative histograms: a threshold that is frozen on an edge, and the rows above it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def threshold_bucket(histogram: Sequence[int], quantile: float) -> int | None:
    """The bucket whose upper edge is the `quantile` of a histogram; None: it is empty.

    Rows in later buckets are at most 1 − `quantile` of all, so an edge is a threshold as good as the quantile itself.
    """
    wanted = quantile * sum(histogram)
    if not wanted:
        return None
    below = 0
    for bucket, count in enumerate(histogram):
        below += count
        if below >= wanted * (1 - 1e-12):
            return bucket
    return len(histogram) - 1


def edge_bucket(edges: Sequence[float], threshold: float) -> int:
    """The bucket whose upper edge is the first at or above `threshold`, so that later buckets hold nothing faster than it.

    `edges`: upper edges, rising; len(edges): the threshold is beyond all of them.
    """
    for bucket, edge in enumerate(edges):
        if edge >= threshold or math.isclose(edge, threshold):
            return bucket
    return len(edges)


def rows_above(histogram: Sequence[int], bucket: int) -> int:
    """Rows in the buckets after `bucket`."""
    return sum(histogram[bucket + 1 :])
