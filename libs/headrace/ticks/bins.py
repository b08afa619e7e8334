"""The buckets of all histograms that routers report. Both ends of a tick must have the same, so they stand here alone."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

# Renard's series R20: each is 12 % above the one before, and the thresholds that people choose (200 ms, 0.5 s) are among them.
_R20 = (
    1.0,
    1.12,
    1.25,
    1.4,
    1.6,
    1.8,
    2.0,
    2.24,
    2.5,
    2.8,
    3.15,
    3.55,
    4.0,
    4.5,
    5.0,
    5.6,
    6.3,
    7.1,
    8.0,
    9.0,
)
# Each the double nearest to its decimal text.
LATENCY_EDGES_S = (*(float(f"{x}e{decade}") for decade in range(-4, 2) for x in _R20), 100.0)
"""Upper edges in seconds (included) of the buckets of times, from 0.1 ms to 100 s; one more bucket holds what is longer."""
LATENCY_BUCKETS = len(LATENCY_EDGES_S) + 1


def latency_bucket(seconds: float) -> int:
    """Which bucket a time belongs to."""
    return bisect_left(LATENCY_EDGES_S, seconds)


def threshold(seconds: float) -> float:
    """The edge at which rows slower than `seconds` are told apart: the first that is not below it (inf: none)."""
    place = latency_bucket(seconds)
    return LATENCY_EDGES_S[place] if place < len(LATENCY_EDGES_S) else math.inf


def slower_than(counts: Sequence[int], seconds: float) -> int:
    """How many of the rows counted in `counts` took longer than `threshold(seconds)`."""
    return sum(counts[latency_bucket(seconds) + 1 :])


def quantile(counts: Sequence[int], q: float) -> float:
    """The upper edge, in seconds, of the bucket that holds the quantile `q`; inf: it is beyond all edges; 0.0: no rows."""
    wanted = q * sum(counts)
    if not wanted:
        return 0.0
    below = 0
    for count, edge in zip(counts, LATENCY_EDGES_S, strict=False):
        below += count
        if below >= wanted:
            return edge
    return math.inf
