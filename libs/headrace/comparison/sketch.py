"""A bounded histogram from which quantiles are read with a relative error of 1 %.

After DDSketch (Masson, Rim, Lee: VLDB 2019): buckets in geometric progression; sketches of several processes add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ERROR = 0.01
_LOG_GAMMA = math.log((1 + ERROR) / (1 - ERROR))
# Values are held to this range, so there are at most 2,072 buckets.
_LEAST, _MOST = 1e-9, 1e9
_FIRST = math.ceil(math.log(_LEAST) / _LOG_GAMMA)
_LAST = math.ceil(math.log(_MOST) / _LOG_GAMMA)


@dataclass(slots=True)
class QuantileSketch:
    """Non-negative values. `zeros`: those below 1e-9; `infinite`: those that are infinite or NaN, which count as the greatest."""

    buckets: dict[int, int] = field(default_factory=dict)
    zeros: int = 0
    infinite: int = 0
    sum: float = 0.0
    max: float = 0.0

    @property
    def count(self) -> int:
        return self.zeros + self.infinite + sum(self.buckets.values())

    @property
    def mean(self) -> float:
        """Of the finite values; NaN if there are none."""
        finite = self.count - self.infinite
        return self.sum / finite if finite else math.nan

    def add(self, values: NDArray[np.floating], times: int = 1) -> None:
        """Counts each of the values (any shape) `times` times."""
        values = np.asarray(values, np.float64).ravel()
        finite = values[np.isfinite(values)]
        self.infinite += (len(values) - len(finite)) * times
        if not len(finite):
            return
        self.sum += float(finite.sum()) * times
        self.max = max(self.max, float(finite.max()))
        positive = finite[finite >= _LEAST]
        self.zeros += (len(finite) - len(positive)) * times
        if len(positive):
            index = np.ceil(np.log(positive) / _LOG_GAMMA).astype(np.int64).clip(_FIRST, _LAST)
            for bucket, count in zip(*np.unique(index, return_counts=True), strict=True):
                self.buckets[int(bucket)] = self.buckets.get(int(bucket), 0) + int(count) * times

    def quantile(self, q: float) -> float:
        """The value below which a share `q` (0 to 1) lies, within 1 %; inf if it is among the infinite, NaN without values."""
        count = self.count
        if not count:
            return math.nan
        rank, seen = q * (count - 1), self.zeros
        if rank < seen:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if rank < seen:
                # The middle of the bucket, by the relative error.
                return min(math.exp(bucket * _LOG_GAMMA) * 2 / (1 + math.exp(_LOG_GAMMA)), self.max)
        return math.inf

    def merge(self, other: QuantileSketch) -> None:
        """Adds the values of another sketch."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.zeros += other.zeros
        self.infinite += other.infinite
        self.sum += other.sum
        self.max = max(self.max, other.max)
