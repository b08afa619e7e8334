"""Interval of a proportion, and the exact test of paired yes-or-no answers."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054
# Beyond this many discordant pairs the exact sum is replaced by the normal approximation, whose error is then below 1e-3.
_EXACT = 2000


def wilson(successes: int, count: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 % by default; (0, 1) without data.

    Wilson 1927; unlike the normal interval it is right near 0 and 1, where agreement usually is.
    """
    if count == 0:
        return 0.0, 1.0
    p, z2 = successes / count, z * z
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(p * (1 - p) / count + z2 / (4 * count * count))
    low = 0.0 if successes == 0 else max(middle - half, 0.0)
    high = 1.0 if successes == count else min(middle + half, 1.0)
    return low, high


def mcnemar(first: int, second: int) -> float:
    """Two-sided p-value that both kinds of discordant pairs are equally likely (McNemar 1947, exact by the binomial).

    `first`: pairs where only the one says yes; `second`: where only the other does. 1.0 without such pairs.
    """
    count, less = first + second, min(first, second)
    if count == 0:
        return 1.0
    if count > _EXACT:
        z = max(abs(first - second) - 1, 0) / math.sqrt(count)
        return math.erfc(z / math.sqrt(2))
    half = math.log(2) * count
    tail = sum(
        math.exp(math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - half)
        for k in range(less + 1)
    )
    return min(2 * tail, 1.0)
