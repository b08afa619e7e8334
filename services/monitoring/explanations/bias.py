"""Bias slices: what the groups of a column got. Answers, wrong answers and contributions on average, each with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.analysis import wilson

LEAST_GROUP = 30
MOST_GROUPS = 50
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one pipeline, as parallel lists. `keys`: tenant, request id and row, by which outcomes are known. `outputs`:
    NaN where there is none. `labels`: by name, outputs that are truth values or whole numbers."""

    ids: Sequence[bytes]
    keys: Sequence[tuple[str, str, int]]
    groups: Sequence[str]
    outputs: NDArray[np.float64]
    truth: bool
    labels: Mapping[str, NDArray[np.float64]]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `count` values with an interval that holds the true one with 95 %. `value` None: of none."""

    count: int
    value: float | None = None
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Slice:
    """What a group got. `groups`: how many groups it holds; several are too small, and have no name. `wrong`: share of those of
    which it is known. `contribution`: what the column that makes the groups added."""

    group: str
    groups: int
    output: Mean
    wrong: Mean
    contribution: Mean


def slices(
    predictions: Predictions,
    wrong: NDArray[np.float64],
    contributions: NDArray[np.float64],
    least: int = LEAST_GROUP,
) -> list[Slice]:
    """The groups, the largest first; those with fewer than `least` predictions together at the end. `wrong`, `contributions`: NaN
    where it is not known."""
    places: dict[str, list[int]] = {}
    for place, group in enumerate(predictions.groups):
        places.setdefault(group, []).append(place)
    ordered = sorted(places.items(), key=lambda found: (-len(found[1]), found[0]))
    large = [found for found in ordered[:MOST_GROUPS] if len(found[1]) >= least]
    small = ordered[len(large) :]
    named: list[tuple[str, int, list[int]]] = [(group, 1, rows) for group, rows in large]
    if small:
        named.append(("", len(small), [row for _, rows in small for row in rows]))
    return [
        Slice(
            group,
            count,
            (share if predictions.truth else mean)(predictions.outputs[rows]),
            share(wrong[rows]),
            mean(contributions[rows]),
        )
        for group, count, rows in named
    ]


def share(values: NDArray[np.float64]) -> Mean:
    """Of zeros and ones, with Wilson's interval. NaN does not count."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Mean(0)
    low, high = wilson(int(known.sum()), len(known))
    return Mean(len(known), float(known.mean()), low, high)


def mean(values: NDArray[np.float64]) -> Mean:
    """Of numbers, with the interval of a normal mean; NaN does not count."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Mean(0)
    middle = float(known.mean())
    wide = _Z95 * float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.inf
    return Mean(len(known), middle, middle - wide, middle + wide)


def wrong_of(
    predictions: Predictions, outcomes: Mapping[tuple[str, str, int], Mapping[str, float]], says_so: str
) -> NDArray[np.float64]:
    """1: wrong, 0: right, NaN: not known. `outcomes`: by prediction, values by name; the one named `says_so` says so itself,
    those named like an output are compared with it."""
    found = np.full(len(predictions), np.nan)
    for place, key in enumerate(predictions.keys):
        known = outcomes.get(key)
        if not known:
            continue
        if says_so in known:
            found[place] = float(known[says_so] != 0)
            continue
        for name, answered in predictions.labels.items():
            if name in known and not math.isnan(answered[place]):
                found[place] = float(known[name] != answered[place])
                break
    return found
