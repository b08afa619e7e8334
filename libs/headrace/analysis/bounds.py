"""Bounds of a rate that hold at every look at once, of an excess over another rate, and Wilson's interval for a fixed number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

from headrace.analysis.rate_ratio import Count

# Rates that the evidence may point to, as multiples of the rate that is tested.
_BELOW = (0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.95, 0.98)
_ABOVE = (1.02, 1.05, 1.13, 1.3, 1.6, 2.2, 4.0, 15.0)
# Each step halves the interval: the bound is exact to 2^-28.
_STEPS = 28


# Counts of weights that are over do not change any more.
@lru_cache(maxsize=4096)
def upper_bound(count: Count, alpha: float) -> float:
    """The rate that the true one is below, at every look at once with probability 1 − `alpha`.

    A rate p is excluded once E(p) = mean over r of r^x · ((1 − r·p)/(1 − p))^(n−x) ≥ 1/α, for the r in 0 … 0.98: the
    likelihood ratio of the rate r·p, mixed over r. Each is a supermartingale if no row's rate is below p (Robbins 1970; Ville),
    and by the inequality of the means also if only their average is not. E rises with p, so what is excluded is an interval.
    One-sided, it needs far fewer rows than the beta-binomial mixture over all rates, which spends nearly all its weight on
    rates above the tested one: without any bad row, 985 rows in place of 2,127 for p = 0.5 % and α = 5 %.
    """
    rows, bad = count
    if bad >= rows:
        return 1.0
    return _bisect(lambda p: _log_mixture(_BELOW, rows, bad, p) >= -math.log(alpha), bad / rows, 1.0)


@lru_cache(maxsize=4096)
def lower_bound(count: Count, alpha: float) -> float:
    """The rate that the true one is above, at every look at once with probability 1 − `alpha`; as `upper_bound`, with r > 1."""
    rows, bad = count
    if not bad:
        return 0.0
    return _bisect(lambda p: _log_mixture(_ABOVE, rows, bad, p) < -math.log(alpha), 0.0, bad / rows)


def excess_upper_bound(strata: Sequence[tuple[Count, Count]], alpha: float, most_strata: int) -> float:
    """How much the canary's rate may exceed the live arm's at most, at every look at once with probability 1 − `alpha`.

    `strata`: (live, canary) for each time in which the shares of the arms were constant, at most `most_strata`. The bound is the
    canary's upper bound at α/2, minus the live arm's lower bound: per stratum at α/2/`most_strata`, weighted with the canary's
    rows, as otherwise a bad hour that only the live arm met would make the canary look good.
    """
    canary = Count(sum(c.rows for _, c in strata), sum(c.bad for _, c in strata))
    if not canary.rows:
        return 1.0
    lows = [
        c.rows / canary.rows * lower_bound(live, alpha / 2 / most_strata)
        for live, c in strata
        if c.rows and live.bad
    ]
    return upper_bound(canary, alpha / 2) - math.fsum(lows)


def wilson(bad: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a rate for a number of rows that was fixed beforehand; (0, 1) without rows.

    (p̂ + z²/2n ± z·sqrt(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n), E. B. Wilson 1927. `z`: 1.96 for 95 %.
    """
    if not rows:
        return 0.0, 1.0
    rate, share = bad / rows, z * z / rows
    middle = rate + share / 2
    half = z * math.sqrt(rate * (1 - rate) / rows + share / (4 * rows))
    return max((middle - half) / (1 + share), 0.0), min((middle + half) / (1 + share), 1.0)


def _log_mixture(ratios: Sequence[float], rows: int, bad: int, p: float) -> float:
    """log of the mean over r of r^x ((1−rp)/(1−p))^(n−x)."""
    if p >= 1:
        return math.inf
    good, log_good = rows - bad, math.log1p(-p)
    logs = [
        (bad * math.log(r) if bad else 0.0) + good * (math.log1p(-r * p) - log_good)
        for r in ratios
        if r * p < 1 and (r or not bad)
    ]
    if not logs:
        return -math.inf
    highest = max(logs)
    return highest + math.log(math.fsum(math.exp(v - highest) for v in logs) / len(ratios))


def _bisect(high_side: Callable[[float], bool], low: float, high: float) -> float:
    """Where `high_side` becomes true between `low` and `high`."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if high_side(middle):
            high = middle
        else:
            low = middle
    return high
