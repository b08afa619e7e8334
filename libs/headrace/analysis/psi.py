"""How far two histograms of an output differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

_FLOOR = 1e-4


def population_stability_index(expected: Sequence[int], actual: Sequence[int]) -> float | None:
    """Σ (a_i − e_i)·ln(a_i/e_i) over the buckets' shares e_i and a_i; None: one of the two is empty.

    Below 0.1 usually counts as stable, above 0.25 as another distribution (Siddiqi, "Credit risk scorecards", 2006). An empty
    bucket counts as 0.01 %, since its logarithm would be infinite. It is an effect size, no test.
    """
    if len(expected) != len(actual):
        raise ValueError(f"the histograms have {len(expected)} and {len(actual)} buckets")
    before, after = sum(expected), sum(actual)
    if not before or not after:
        return None
    pairs = [(max(e / before, _FLOOR), max(a / after, _FLOOR)) for e, a in zip(expected, actual, strict=True)]
    return math.fsum((a - e) * math.log(a / e) for e, a in pairs)
