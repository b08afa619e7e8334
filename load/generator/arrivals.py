"""When each request is due: Poisson arrivals. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def arrivals(rate: float, seconds: float, random: np.random.Generator) -> Times:
    """Seconds from the start, ascending and below `seconds`, of a Poisson process with `rate` requests per second."""
    expected = rate * seconds
    gaps = random.exponential(1 / rate, int(expected + 10 * np.sqrt(expected) + 20))
    times: Times = np.cumsum(gaps)
    return times[times < seconds]
