"""Which columns a sketch looks at, and how: edges of bins, ranges, vocabularies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Cells of the table through which a value finds its bin.
CELLS = 256
# A category's text is cut to so many characters.
LONGEST_CATEGORY = 64


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers or truth values.

    `edges`: rising; bin i holds x with exactly i edges ≤ x. `low`, `high`: a value beyond them is out of range.
    """

    name: str
    edges: tuple[float, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    @property
    def bins(self) -> int:
        return len(self.edges) + 1


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of texts. `vocabulary`: the categories that are counted one by one."""

    name: str
    vocabulary: tuple[str, ...] = ()


AnyColumn: TypeAlias = NumberColumn | CategoryColumn


@dataclass(frozen=True)
class Layout:
    """Columns in a fixed order. Two sketches merge if their layouts have the same digest."""

    columns: tuple[AnyColumn, ...]
    numbers: tuple[NumberColumn, ...] = field(init=False)
    categories: tuple[CategoryColumn, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        if len(set(names)) < len(names):
            raise ValueError("a layout names a column twice")
        object.__setattr__(self, "numbers", tuple(c for c in self.columns if isinstance(c, NumberColumn)))
        object.__setattr__(
            self, "categories", tuple(c for c in self.columns if isinstance(c, CategoryColumn))
        )

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(c.name for c in self.columns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides what a count means."""
        parts = [[type(c).__name__, asdict(c)] for c in self.columns]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def tables(self) -> Tables:
        return Tables.of(self.numbers)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Name of a number column → its place among the number columns."""
        return {c.name: i for i, c in enumerate(self.numbers)}


@dataclass(frozen=True, slots=True)
class Tables:
    """What finds the bin of a value in a few vectorised steps; the first axis is the column.

    The inner range of the edges is cut into 256 equal cells, and no cell holds two edges (`separated` sees to that). So the bin
    of x is `first[cell]`, the number of edges in earlier cells, plus 1 if x reaches the edge in its own cell. It is exact, not
    only to the width of a cell, since the cell's number never falls as x grows.
    """

    width: int
    start: NDArray[np.float64]
    per_unit: NDArray[np.float64]
    # Flat, column × CELLS: bins before this cell, plus column × width; the edge within it, or infinity.
    first: NDArray[np.int64]
    edge: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    # Where a column's cells begin.
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, columns: Sequence[NumberColumn]) -> Tables:
        width = max((c.bins for c in columns), default=1)
        first = np.zeros((len(columns), CELLS), np.int64)
        edge = np.full((len(columns), CELLS), np.inf)
        start, per_unit = _spans(columns)
        for i, column in enumerate(columns):
            cells = cells_of(np.array(column.edges), start[i], per_unit[i])
            if len(set(cells.tolist())) < len(cells):
                raise ValueError(f"column {column.name}: two edges share a cell; see `separated`")
            edge[i, cells] = column.edges
            first[i] = i * width + np.searchsorted(cells, np.arange(CELLS), side="left")
        return cls(
            width=width,
            start=start[:, None],
            per_unit=per_unit[:, None],
            first=first.ravel(),
            edge=edge.ravel(),
            cells=np.arange(len(columns))[:, None] * CELLS,
            low=_upright([c.low for c in columns]),
            high=_upright([c.high for c in columns]),
        )


def _upright(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values, np.float64).reshape(-1, 1)


def _spans(columns: Sequence[NumberColumn]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    spans = [span(c.edges) for c in columns]
    return np.array([s for s, _ in spans], np.float64), np.array([p for _, p in spans], np.float64)


def span(edges: Sequence[float]) -> tuple[float, float]:
    """Where the first cell begins, and cells per unit. The last edge begins the last cell."""
    if not edges:
        return 0.0, 1.0
    width = edges[-1] - edges[0]
    per_unit = (CELLS - 1) / width if width > 0 else 1.0
    return edges[0], per_unit if math.isfinite(per_unit) else 1.0


def cells_of(
    values: NDArray[np.float64], start: float | NDArray[np.float64], per_unit: float | NDArray[np.float64]
) -> NDArray[np.int64]:
    """The cell of each finite value, 0 … 255. The same steps for edges and for values, so that rounding can't part them."""
    place = values - start
    place *= per_unit
    np.clip(place, 0, CELLS - 1, out=place)
    return place.astype(np.int64)


def separated(edges: Sequence[float]) -> tuple[float, ...]:
    """Those of the rising `edges` that no earlier one shares a cell with. First and last stay."""
    distinct = sorted(set(edges))
    if len(distinct) < 3:
        return tuple(distinct)
    cells = cells_of(np.array(distinct), *span(distinct)).tolist()
    kept: list[float] = []
    taken = {cells[-1]}
    for value, cell in zip(distinct[:-1], cells[:-1], strict=True):
        if cell not in taken:
            taken.add(cell)
            kept.append(value)
    return (*kept, distinct[-1])
