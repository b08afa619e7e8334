"""What is counted of the answers of one arm, and how: which values fall into which bin, which rows into which segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.events import BUSY_US, LATENCY_US

# Values of outputs that are compared, bins of each, and segments: of all columns together, and tenants.
ELEMENTS, BINS = 8, 12
SEGMENTS, TENANTS = 50, 10
TENANT = "@tenant"
ROWS: tuple[str, ...] = ("non_finite", "null", "out_of_range")
Ints: TypeAlias = NDArray[np.int64]
Ends: TypeAlias = tuple[float, float]
# How an arm is slow or costs much: beyond this quantile of the live arm.
_QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class Plan:
    """Made of the first answers of both arms, before any is compared: whatever it is, what follows is judged by it alone.

    `elements`: names of the values that are compared, and where each lies (column, place); `bins`: the edges of each, or the code
    of each text. `parts`: names of all rows, of segments and of tenants; `codes`: column → value → number of its part.
    `slow_us`, `costly_us`: a batch beyond them is slow, or costs much a row. `unseen`: outputs whose values are not in events.
    """

    elements: tuple[tuple[str, int], ...] = ()
    bins: tuple[Ints | NDArray[np.float64] | Mapping[bytes, int], ...] = ()
    parts: tuple[str, ...] = ()
    codes: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)
    slow_us: float = np.inf
    costly_us: float = np.inf
    unseen: tuple[str, ...] = ()

    @cached_property
    def log_weights(self) -> NDArray[np.float64]:
        """(elements × BINS,): log of the share of each bin in evidence, the same for each value and for each of its bins."""
        found = np.full((len(self.elements), BINS), -np.inf)
        for of_element, bins in zip(found, self.bins, strict=True):
            of_element[: len(bins) + 1] = -np.log(len(self.elements) * (len(bins) + 1))
        return found.ravel()

    @property
    def log_bins(self) -> float:
        """log of the number of bins by which the weakest is outweighed."""
        return float(-self.log_weights[np.isfinite(self.log_weights)].min(initial=0.0))

    def element(self, number: int) -> str:
        """Its name."""
        name, place = self.elements[number]
        return f"{name}[{place}]" if sum(n == name for n, _ in self.elements) > 1 else name


@dataclass(slots=True)
class Answers:
    """Counts of one arm. `rows`: of events; `ranged`: whether any range is known; `bad`: (3, 2), of ROWS: units at risk, and bad
    ones. The others are of the whole and of each segment: `values`: (1 + segments, ELEMENTS, BINS) units; `failed`: (…, 2) units,
    and failed ones; `slow`: (…, 2) batches, and slow ones. `costly`: batches, and those that cost much a row."""

    plan: Plan | None = None
    rows: int = 0
    ranged: bool = False
    bad: Ints = field(default_factory=lambda: np.zeros((len(ROWS), 2), np.int64))
    values: Ints = field(default_factory=lambda: _of_segments(ELEMENTS, BINS))
    failed: Ints = field(default_factory=lambda: _of_segments(2))
    slow: Ints = field(default_factory=lambda: _of_segments(2))
    costly: Ints = field(default_factory=lambda: np.zeros(2, np.int64))


def _of_segments(*shape: int) -> Ints:
    return np.zeros((1 + SEGMENTS + TENANTS, *shape), np.int64)


def plan_of(
    sample: Mapping[tuple[str, int], Sequence[Any]],
    times: Mapping[str, Ints],
    tenants: Counter[str],
    declared: Mapping[str, Sequence[Any]],
    unseen: Sequence[str],
) -> Plan:
    """`sample`: values by element; `times`: of its batches; `declared`: input column → the values that are
    segments, at most SEGMENTS of all columns together."""
    codes: dict[str, dict[Any, int]] = {}
    names = ["all"]
    for column, values in declared.items():
        for value in values[: 1 + SEGMENTS - len(names)]:
            codes.setdefault(column, {})[value] = len(names)
            names.append(f"{column}={value.decode(errors='replace') if isinstance(value, bytes) else value}")
    names += [""] * (1 + SEGMENTS - len(names))
    for tenant, _ in tenants.most_common(TENANTS):
        codes.setdefault(TENANT, {})[tenant] = len(names)
        names.append(f"tenant {tenant}")
    slow_us, costly_us = (float(np.quantile(times[name], _QUANTILE)) for name in (LATENCY_US, BUSY_US))
    bins = tuple(_texts(v) if isinstance(v[0], bytes) else _edges(np.array(v)) for v in sample.values())
    return Plan(tuple(sample), bins, tuple(names), codes, slow_us, costly_us, tuple(unseen))


def _texts(values: Sequence[bytes]) -> dict[bytes, int]:
    return {text: code for code, (text, _) in enumerate(Counter(values).most_common(BINS - 1))}


def _edges(values: NDArray[Any]) -> NDArray[np.float64]:
    """Between the values if there are few, else the deciles: the tails of heavy-tailed values are bins like others."""
    distinct = np.unique(values)
    if len(distinct) < BINS:
        edges: NDArray[np.float64] = (distinct[1:] + distinct[:-1]) / 2
        return edges
    return np.unique(np.quantile(values, np.arange(1, 10) / 10))


def places(plan: Plan, columns: Mapping[str, Column], rows: NDArray[np.intp]) -> Ints:
    """(rows, elements): the bin of each value, counted over all elements; −1: there is none."""
    found = np.full((len(rows), len(plan.elements)), -1, np.int64)
    for number, ((name, place), bins) in enumerate(zip(plan.elements, plan.bins, strict=True)):
        column = columns.get(name)
        if column is None:
            continue
        if isinstance(bins, Mapping):
            items = column.take(rows).ragged.to_list() if column.dtype is DType.BYTES else []
            codes = np.fromiter(map(bins.get, items, repeat(len(bins))), np.int64, len(items))
            there = column.is_valid()[rows]
        else:
            values = element(column, place)[rows]
            codes, there = np.searchsorted(bins, values, side="right"), np.isfinite(values)
        found[there, number] = number * BINS + codes[there]
    return found


def element(column: Column, place: int) -> NDArray[np.float64]:
    """One value of each row; NaN: there is none."""
    values = column.array.reshape(len(column), -1)[:, place].astype(np.float64)
    if column.valid is not None:
        values[~column.valid] = np.nan
    return values


def segments(plan: Plan, columns: Mapping[str, Column], tenants: Sequence[str]) -> list[Ints]:
    """The segment of each row, by each column that makes some; 0: none of them."""
    found = []
    for name, codes in plan.codes.items():
        if name == TENANT:
            items: Sequence[Any] = tenants
        elif (column := columns.get(name)) is None or column.row_shape:
            continue
        else:
            items = column.ragged.to_list() if column.dtype is DType.BYTES else column.array.tolist()
        found.append(np.fromiter(map(codes.get, items, repeat(0)), np.int64, len(items)))
    return found
