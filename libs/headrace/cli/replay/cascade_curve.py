"""The threshold of a cascade, chosen by labelled rows: what it saves, what quality it costs, and what that is at most.

The loss of a decision is its cost: 0 if it is right. With a decision threshold t on a probability, a missed row costs 1 − t
and a false alarm t (the costs for which t is the right threshold, Elkan 2001); else each wrong decision costs 1. The quality
loss of a cascade is its mean cost above the heavy model's alone. It is bounded from above by Clopper-Pearson bounds of the share
of rows of each kind of difference, with `alpha` divided by the number of kinds.

Thresholds are tested from the greatest down, and the first whose bound is above the budget ends the test. Each test is at level
alpha, and the order is fixed, so the chosen threshold costs more than the budget with a probability of at most alpha (fixed
sequence testing: Angelopoulos et al., Learn then Test, 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
STEPS = 200
# Two-sided, 95 %.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled rows: the light model's margins, what each model's decision costs, and the rows that go to the heavy one anyway.

    All of shape (rows,). `costs`: every cost that a decision can have, besides 0.
    """

    margins: Floats
    light: Floats
    heavy: Floats
    always: Mask
    costs: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.margins)

    @property
    def gap(self) -> float:
        """The mean cost by which the heavy model is better."""
        return float((self.light - self.heavy).mean())


@dataclass(frozen=True, slots=True)
class Point:
    """A cascade with one threshold. `heavy_share`: of the rows; `loss`: mean cost; `lost`: the part above the heavy model's, with
    its 95 % interval (paired, normal); `lost_bound`: what it is at most, with confidence 1 − alpha."""

    threshold: float
    heavy_share: float
    loss: float
    lost: float
    lost_interval: tuple[float, float]
    lost_bound: float


def decisions(scores: NDArray[np.generic], decision: float | None, element: int) -> NDArray[np.int64]:
    """int64 (rows,): 1 where the element reaches the decision, else 0; without a decision, the greatest element's position."""
    flat = scores.reshape(len(scores), math.prod(scores.shape[1:])).astype(np.float64)
    if decision is None:
        return np.asarray(flat.argmax(axis=1), np.int64)
    return (flat[:, element] >= decision).astype(np.int64)


def cost_of(decision: float | None) -> tuple[float, float]:
    """The costs of a missed row and of a false alarm."""
    if decision is None or not 0 < decision < 1:
        return 1.0, 1.0
    return 1 - decision, decision


def costs(decided: NDArray[np.int64], labels: NDArray[np.int64], decision: float | None) -> Floats:
    """float64 (rows,): the cost of each decision."""
    missed, false_alarm = cost_of(decision)
    return np.where(decided == labels, 0.0, np.where(labels > decided, missed, false_alarm))


def grid(margins: Floats, decision: float | None, steps: int = STEPS) -> list[float]:
    """Thresholds from 0 to one above which no margin is, in equal steps: the labels have no part in them."""
    known = decision is not None and 0 < decision < 1
    most = (
        max(decision, 1 - decision)
        if known and decision is not None
        else float(np.nanmax(margins, initial=0.0))
    )
    most = most or 1.0
    return [most * i / steps for i in range(steps + 1)]


def curve(rows: Labelled, thresholds: Sequence[float], alpha: float) -> list[Point]:
    """A point for each threshold."""
    return [_point(rows, threshold, alpha) for threshold in thresholds]


def chosen(points: Sequence[Point], budget: float) -> Point | None:
    """The point with the least threshold that is reached from the greatest without a bound above `budget`; None: none is."""
    found = None
    for point in sorted(points, key=lambda p: -p.threshold):
        if point.lost_bound > budget:
            break
        found = point
    return found


def cpu_saved(point: Point, cpu_us: Sequence[float]) -> float:
    """The share of the CPU of the heavy model alone that the cascade saves; what its light model takes is taken off.

    `cpu_us`: of a row, light and heavy.
    """
    light, heavy = cpu_us
    return 1 - (light + point.heavy_share * heavy) / heavy


def rows_needed(budget: float, rows: Labelled, alpha: float) -> int:
    """How many rows a budget needs at least: as many that the bound is below it if no decision differs."""
    kinds = _kinds(rows.costs)
    worst = sum(k for k in kinds if k > 0)
    return math.ceil(worst * math.log(len(kinds) / alpha) / budget)


def _kinds(costs: Sequence[float]) -> list[float]:
    """Every difference that two decisions about one row can have, besides 0. They have one label, so if both are wrong they cost
    the same: only one right and one wrong decision differ, by what the wrong one costs."""
    distinct = sorted(set(costs))
    return [sign * cost for cost in distinct for sign in (1.0, -1.0)]


def share_bound(count: int, total: int, alpha: float, *, upper: bool) -> float:
    """What a share, of which `count` of `total` were seen, is at most (`upper`), or at least: it is beyond with at most the
    probability `alpha` (Clopper and Pearson, 1934)."""
    from scipy.special import betaincinv  # here, as its import takes a tenth of a second

    if upper:
        return 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - alpha))
    return 0.0 if count == 0 else float(betaincinv(count, total - count + 1, alpha))


def _point(rows: Labelled, threshold: float, alpha: float) -> Point:
    alone = (rows.margins >= threshold) & ~rows.always
    difference = np.where(alone, rows.light - rows.heavy, 0.0)
    count = len(rows)
    lost = float(difference.mean())
    half = _Z * float(difference.std()) / math.sqrt(count)
    kinds = _kinds(rows.costs)
    bound = 0.0
    for kind in kinds:
        seen = int(np.count_nonzero(np.isclose(difference, kind)))
        bound += kind * share_bound(seen, count, alpha / len(kinds), upper=kind > 0)
    share = 1 - float(alone.mean())
    return Point(threshold, share, float(rows.heavy.mean()) + lost, lost, (lost - half, lost + half), bound)
