"""Slow rows from histograms: a threshold on an edge of the buckets, which may follow the live arm, and the rows above it."""

from __future__ import annotations

import math
from collections.abc import Sequence

_QUANTILE = 0.95
# Answers of which the quantile is taken at least. Older ones count less, by this time in seconds.
_ENOUGH = 100
_MEMORY_S = 20.0
# At full weight nothing tells a slow arm from a slow machine, so only what is far slower counts.
_AT_FULL_WEIGHT = 4.0


class SlowThreshold:
    """What is slow: beyond a promised time, or else beyond the p95 of the live arm's last answers.

    The live arm's p95 moves: a machine that gets busy slows both arms. With the p95 of before, nearly all answers of both would
    be slow, and no canary could be told from the live arm any more. So the threshold follows. Each answer is judged by the p95
    of the answers before it, which was chosen without a look at that answer, so every test stays valid.
    """

    def __init__(self, edges: Sequence[float], promised_s: float | None) -> None:
        """`edges`: upper edges of the buckets in seconds, rising. `promised_s`: None: the threshold follows the live arm."""
        self._edges = edges
        self._follows = promised_s is None
        self.bucket = None if promised_s is None else edge_bucket(edges, promised_s)
        self.recent: tuple[float, ...] = ()

    @property
    def seconds(self) -> float | None:
        """The time beyond which an answer is slow; None: not known yet, or beyond all buckets."""
        known = self.bucket is not None and self.bucket < len(self._edges)
        return self._edges[self.bucket] if known and self.bucket is not None else None

    def pass_time(self, seconds: float) -> None:
        """What was learned becomes older: it counts e times less after 20 s, but as much as the least number of answers."""
        total = sum(self.recent)
        if total > _ENOUGH:
            keep = max(math.exp(-seconds / _MEMORY_S), _ENOUGH / total)
            self.recent = tuple(count * keep for count in self.recent)

    def learn(self, live: Sequence[int]) -> None:
        """Takes a histogram of answers of the live arm; later answers are judged by it."""
        if not self._follows or not live:
            return
        length = max(len(live), len(self.recent))
        before = self.recent + (0.0,) * (length - len(self.recent))
        counts = [*live, *(0,) * (length - len(live))]
        self.recent = tuple(a + b for a, b in zip(before, counts, strict=True))
        # The least number of answers may come out a little smaller by rounding.
        if sum(self.recent) >= _ENOUGH * (1 - 1e-9):
            self.bucket = threshold_bucket(self.recent, _QUANTILE)

    def slow(self, histogram: Sequence[int], *, at_full_weight: bool = False) -> int:
        """Answers of a histogram that are slow. Raises ValueError if the threshold is not known yet."""
        if self.bucket is None:
            raise ValueError("the threshold is not known yet")
        bucket = self.bucket
        if at_full_weight and self._follows and bucket < len(self._edges):
            bucket = edge_bucket(self._edges, _AT_FULL_WEIGHT * self._edges[bucket])
        return rows_above(histogram, bucket)


def threshold_bucket(histogram: Sequence[float], quantile: float) -> int | None:
    """The bucket whose upper edge is the `quantile` of a histogram; None: it is empty.

    Rows in later buckets are at most 1 − `quantile` of all, so an edge is a threshold as good as the quantile itself.
    """
    wanted = quantile * sum(histogram)
    if not wanted:
        return None
    below = 0.0
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
