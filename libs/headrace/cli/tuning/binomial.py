"""Exact bounds of a binomial proportion (Clopper and Pearson, 1934), by the regularised incomplete beta function."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

# Bisection to the limits of a float; the continued fraction converges in far fewer rounds.
_HALVINGS = 100
_ROUNDS = 1000
_TINY = 1e-300
_EPSILON = 1e-15


@lru_cache(maxsize=4096)
def upper_bound(count: int, total: int, alpha: float) -> float:
    """The greatest p for which `count` or fewer of `total` has at least the probability `alpha`: p is above it with at most that.

    Raises ValueError for counts that can't be.
    """
    _check(count, total, alpha)
    if count == total:
        return 1.0
    # P(X ≤ count) = 1 − I_p(count + 1, total − count), which falls as p grows.
    return _solved(lambda p: 1 - incomplete_beta(count + 1, total - count, p) < alpha)


@lru_cache(maxsize=4096)
def lower_bound(count: int, total: int, alpha: float) -> float:
    """The least p for which `count` or more of `total` has at least the probability `alpha`. Raises ValueError as above."""
    _check(count, total, alpha)
    if count == 0:
        return 0.0
    return _solved(lambda p: incomplete_beta(count, total - count + 1, p) >= alpha)


def _check(count: int, total: int, alpha: float) -> None:
    if not 0 <= count <= total or total < 1 or not 0 < alpha < 1:
        raise ValueError(f"no proportion: {count} of {total}, alpha {alpha}")


def _solved(beyond: Callable[[float], bool]) -> float:
    """The p in [0, 1] from which on `beyond` is true."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if beyond(middle):
            high = middle
        else:
            low = middle
        if high - low <= _EPSILON * high:
            break
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, by a continued fraction (Press et al., Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # The fraction converges quickly on this side; the other side is its mirror image.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _ROUNDS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _apart(1 + even * d), _apart(1 + even / c)
        value *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _apart(1 + odd * d), _apart(1 + odd / c)
        value *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return value


def _apart(value: float) -> float:
    """`value`, but not 0."""
    return value if abs(value) > _TINY else _TINY
