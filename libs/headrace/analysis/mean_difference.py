"""The difference of an experiment's arms with an interval that holds at every look. The unit is the key."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Number of units at which the interval is tightest; GrowthBook's default.
TUNING = 5000


@dataclass(slots=True)
class Moments:
    """Sums over the keys of one arm: `y`, the sum of a key's outcomes, and `n`, their number."""

    keys: int = 0
    y: float = 0.0
    n: float = 0.0
    yy: float = 0.0
    yn: float = 0.0
    nn: float = 0.0

    def add(self, y: float, n: float = 1.0) -> None:
        """Adds a key."""
        self.keys += 1
        self.y += y
        self.n += n
        self.yy += y * y
        self.yn += y * n
        self.nn += n * n

    @property
    def mean(self) -> float:
        """Mean outcome: Σy / Σn; NaN without any."""
        return self.y / self.n if self.n else math.nan

    @property
    def variance(self) -> float:
        """Variance of the mean by the delta method: (s_yy − 2R·s_yn + R²·s_nn) / (k·n̄²), with R the mean and k the keys.

        Outcomes of one key are not independent, so they count by key (Deng, Knoblich & Lu, "Applying the delta method in metric
        analytics", KDD 2018). NaN for fewer than two keys.
        """
        k = self.keys
        if k < 2 or not self.n:
            return math.nan
        mean = self.mean
        squares = self.yy - 2 * mean * self.yn + mean * mean * self.nn
        return max(squares, 0.0) / (k - 1) / k / (self.n / k) ** 2


@dataclass(frozen=True, slots=True)
class Difference:
    """`value` lies in `low` … `high` with probability 1 − α at all looks together. NaN, −∞ … ∞: too few keys."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def sequential_half_width(variance: float, keys: int, alpha: float, tuning: int = TUNING) -> float:
    """Half the width of the always-valid interval of an estimate with this variance from `keys` keys of both arms.

    σ̂ · sqrt(2(nρ²+1)/(n²ρ²) · ln(sqrt(nρ²+1)/α)) with σ̂² = n·variance and ρ² = (−2 ln α + ln(1 − 2 ln α))/N
    (Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence sequences", 2021, as in GrowthBook with
    N = 5000). It is asymptotic: its level holds from some hundred keys on.
    """
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuning
    grown = keys * rho2 + 1
    return math.sqrt(keys * variance * 2 * grown / (keys * keys * rho2) * math.log(math.sqrt(grown) / alpha))


def difference(base: Moments, other: Moments, alpha: float = 0.05) -> Difference:
    """other − base of the mean outcomes."""
    return _interval(other.mean - base.mean, base.variance + other.variance, base, other, alpha)


def relative_lift(base: Moments, other: Moments, alpha: float = 0.05) -> Difference:
    """(other − base) / base of the mean outcomes; variance by the delta method: v_o/b² + v_b·o²/b⁴."""
    if not base.mean:
        return Difference(math.nan, -math.inf, math.inf)
    ratio = other.mean / base.mean
    variance = (other.variance + ratio * ratio * base.variance) / base.mean**2
    return _interval(ratio - 1, variance, base, other, alpha)


def _interval(value: float, variance: float, base: Moments, other: Moments, alpha: float) -> Difference:
    if math.isnan(variance):
        return Difference(value, -math.inf, math.inf)
    half = sequential_half_width(variance, base.keys + other.keys, alpha)
    return Difference(value, value - half, value + half)
