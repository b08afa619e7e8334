"""Histograms of how late labels came: buckets of one second and up, each a quarter longer than the one before."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping

_STEP = 1.25
# The last edge is 96 days.
_EDGES = tuple(_STEP**k for k in range(72))


def bucket(delay_s: float) -> int:
    """The bucket that a delay falls into; the last is open."""
    return bisect_left(_EDGES, delay_s)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """So many of the labels came within so many seconds, or up to a quarter less (an edge of a bucket). None: no labels came."""
    wanted = math.ceil(sum(counts.values()) * share)
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted > 0:
            return _EDGES[min(number, len(_EDGES) - 1)]
    return None
