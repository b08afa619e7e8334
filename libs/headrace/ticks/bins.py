"""The buckets of all histograms that routers report. Both ends of a tick must have the same, so they stand here alone."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
_R5 = _R20[::4]


def _decades(series: Sequence[float], first: int, last: int) -> list[float]:
    """The series from 10^first to 10^last, each the double nearest to its decimal text."""
    return [float(f"{x}e{decade}") for decade in range(first, last) for x in series] + [float(f"1e{last}")]


LATENCY_EDGES_S = tuple(_decades(_R20, -4, 2))
"""Upper edges in seconds (included) of the buckets of times, from 0.1 ms to 100 s; one more bucket holds what is longer."""
LATENCY_BUCKETS = len(LATENCY_EDGES_S) + 1

_BEYOND_ONE = _decades(_R5, 0, 9)[1:]
OUTPUT_EDGES = (
    *(-edge for edge in reversed(_BEYOND_ONE)),
    *(i / 100 for i in range(-100, 101)),
    *_BEYOND_ONE,
)
"""Upper edges (included) of the buckets of an output: steps of 0.01 from -1 to 1, where probabilities and scores lie, and
factors of 1.6 beyond, up to 1e9; one more bucket holds larger values, and the last one NaN."""
OUTPUT_BUCKETS = len(OUTPUT_EDGES) + 2
_OUTPUT_EDGES = np.array(OUTPUT_EDGES)
_PLACE_OF_ZERO = OUTPUT_EDGES.index(0.0)


def latency_bucket(seconds: float) -> int:
    """Which bucket a time belongs to."""
    return bisect_left(LATENCY_EDGES_S, seconds)


def output_counts(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """How many of the numbers `values` (n,) are in each bucket: int64 (OUTPUT_BUCKETS,)."""
    numbers = values.astype(np.float64)
    if len(numbers) and numbers.min() >= -1.0 and numbers.max() <= 1.0:
        places = _places_within_one(numbers)
    else:
        places = _OUTPUT_EDGES.searchsorted(numbers)
        places[np.isnan(numbers)] = OUTPUT_BUCKETS - 1
    return np.bincount(places, minlength=OUTPUT_BUCKETS)


def _places_within_one(numbers: NDArray[np.float64]) -> NDArray[np.intp]:
    """As `searchsorted`, for numbers from -1 to 1, in a fifth of the time: the steps are even there."""
    places = np.ceil(numbers * 100).astype(np.intp)
    places += _PLACE_OF_ZERO
    # The product is rounded: next to an edge it may be one step off.
    places += numbers > _OUTPUT_EDGES[places]
    places -= numbers <= _OUTPUT_EDGES[places - 1]
    return places


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
