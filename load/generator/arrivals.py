"""When each request is due: Poisson arrivals at a rate that may change over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """`seconds` in which the rate goes evenly from `start` to `end` requests per second."""

    seconds: float
    start: float
    end: float


def steady(rate: float, seconds: float) -> list[Stretch]:
    """One rate."""
    return [Stretch(seconds, rate, rate)]


def arrivals(stretches: Sequence[Stretch], random: np.random.Generator) -> Times:
    """Seconds from the start, ascending, of a Poisson process with the rate of `stretches` (inversion method)."""
    bounds = np.cumsum([0.0] + [s.seconds for s in stretches])
    expected = np.cumsum([0.0] + [s.seconds * (s.start + s.end) / 2 for s in stretches])
    count = int(expected[-1] + 10 * np.sqrt(expected[-1]) + 20)
    # Arrivals at rate 1, mapped to the time at which that many requests are expected.
    unit: Times = np.cumsum(random.exponential(size=count))
    unit = unit[unit < expected[-1]]
    times: Times = np.zeros(len(unit))
    for i, stretch in enumerate(stretches):
        inside = (unit >= expected[i]) & (unit < expected[i + 1])
        times[inside] = bounds[i] + _inverse(stretch, unit[inside] - expected[i])
    return times


def _inverse(stretch: Stretch, expected: Times) -> Times:
    """Seconds into the stretch after which `expected` requests are expected."""
    slope = (stretch.end - stretch.start) / stretch.seconds
    if abs(slope) < 1e-9:
        return np.asarray(expected / stretch.start)
    return np.asarray((np.sqrt(stretch.start**2 + 2 * slope * expected) - stretch.start) / slope)
