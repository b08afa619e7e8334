"""Shapley values: how much each player adds to an output, on average over all orders in which players may come.

L. Shapley, "A value for n-person games" (1953); sampling of orders: Castro, Gomez, Tejada, "Polynomial calculation of the Shapley
value based on sampling" (2009); an order with its reverse: Mitchell et al., "Sampling permutations for Shapley value estimation"
(2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.explanations.coalitions import Coalitions
from headrace.explanations.errors import ExplanationError

Floats: TypeAlias = NDArray[np.float64]
# After so many rounds there are no more: the standard errors say how good it is.
MOST_ROUNDS = 32
_SIGMAS, _TOLERANCE = 4.0, 0.05


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each player adds. `base`, `value`: the output of the base row and of the explained row; the sum of `values` (by
    `math.fsum`) is their difference. `errors`: standard error of each; all 0 if they are exact."""

    base: float
    value: float
    values: Floats
    errors: Floats
    exact: bool


def contributions(rounds: Sequence[tuple[Coalitions, Floats]]) -> Contributions:
    """What each player adds, by all rounds together: coalitions, and the output of each in the order of `masks`. All coalitions
    of few players are one round; random orders may have several, of different seeds.

    Raises ExplanationError if an output is not a finite number.
    """
    if not all(np.isfinite(outputs).all() for _, outputs in rounds):
        raise ExplanationError("not_finite", "the output is not a finite number for some coalitions")
    coalitions, outputs = rounds[0]
    base, value = float(outputs[0]), float(outputs[-1])
    if coalitions.exact:
        found = _exact(coalitions.masks, outputs)
        errors = np.zeros_like(found)
    else:
        pairs = np.concatenate([_added_by_pair(made, outputs) for made, outputs in rounds])
        found, errors = pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs))
    return Contributions(base, value, closed(found, value - base), errors, coalitions.exact)


def precise(found: Contributions) -> bool:
    """Whether further rounds are of no use: four standard errors are within 5 % of the largest contribution."""
    return bool(_SIGMAS * found.errors.max() <= _TOLERANCE * np.abs(found.values).max())


def _exact(masks: NDArray[np.bool_], outputs: Floats) -> Floats:
    """Over all coalitions without a player: what it adds, times the share of the orders in which just they come before it."""
    players = masks.shape[1]
    sizes = masks.sum(axis=1)
    weights = np.array([1 / (players * math.comb(players - 1, s)) for s in range(players)])
    found = np.empty(players)
    for player in range(players):
        without = np.flatnonzero(~masks[:, player])
        added = outputs[without + (1 << player)] - outputs[without]
        found[player] = weights[sizes[without]] @ added
    return found


def _added_by_pair(coalitions: Coalitions, outputs: Floats) -> Floats:
    """What each player adds on average in each order and its reverse: (pairs, players)."""
    orders, steps = coalitions.orders, coalitions.steps
    assert orders is not None, "rounds of one explanation are of one kind"
    assert steps is not None, "orders have steps"
    added = np.empty(orders.shape)
    np.put_along_axis(added, orders, np.diff(outputs[steps], axis=1), axis=1)
    return (added[0::2] + added[1::2]) / 2


def closed(found: Floats, total: float) -> Floats:
    """The same with the rounding error of the sum in one of them: a player that adds nothing keeps its 0."""
    values = found.tolist()
    # The larger ones first: what their precision can't take is left to the smaller ones, whose digits are finer.
    for place in np.argsort(-np.abs(found), kind="stable").tolist():
        rest = math.fsum([total, *(-v for v in values)])
        if rest == 0.0 or values[place] == 0.0:
            break
        values[place] += rest
    return np.array(values)
