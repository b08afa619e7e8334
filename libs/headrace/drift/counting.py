"""Counts the rows of a column: what a baseline says of training data, and a look of predictions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from headrace.drift.values import Values, numbers, text_of, texts

# Texts outside the vocabulary that are named.
_FREQUENT = 8


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A column of numbers or truth values.

    `edges`: rising; bin i holds x with exactly i edges ≤ x. `low`, `high`: a value beyond them is out of range.
    """

    name: str
    edges: tuple[float, ...] = ()
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A column of texts. `vocabulary`: the categories that are counted one by one."""

    name: str
    vocabulary: tuple[str, ...] = ()


Column: TypeAlias = NumberColumn | CategoryColumn


@dataclass(frozen=True, slots=True)
class NumberFigures:
    """What is known of a column of numbers."""

    rows: int
    nulls: int
    non_finite: int
    out_of_range: int
    bins: tuple[int, ...]

    @property
    def values(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.nulls - self.non_finite


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """What is known of a column of texts. `unseen`: rows with a category outside the vocabulary; `frequent`: most of
    those."""

    rows: int
    nulls: int
    counts: tuple[int, ...]
    unseen: int
    frequent: tuple[tuple[str, int], ...]

    @property
    def values(self) -> int:
        """Rows with a text."""
        return self.rows - self.nulls


Figures: TypeAlias = Mapping[str, NumberFigures | CategoryFigures]
"""Of columns, by name."""


def figures(columns: Mapping[str, Column], values: Mapping[str, Values | None], rows: int) -> Figures:
    """Of the columns that there are values of; see `count`."""
    return {name: count(columns[name], found, rows) for name, found in values.items() if name in columns}


def count(column: Column, values: Values | None, rows: int) -> NumberFigures | CategoryFigures:
    """The figures of `rows` values. None: the column should be there, and is not: all are null."""
    if isinstance(column, CategoryColumn):
        return _categories(column, values, rows)
    if values is None:
        return NumberFigures(rows, rows, 0, 0, (0,) * (len(column.edges) + 1))
    x = np.empty(rows)
    nulls = numbers(values, x)
    finite = np.isfinite(x)
    known = finite if nulls is None else finite & ~nulls
    missing = 0 if nulls is None else int(nulls.sum())
    found = x[known]
    places = np.searchsorted(np.array(column.edges), found, side="right")
    bins = np.bincount(places, minlength=len(column.edges) + 1)
    beyond = int(((found < column.low) | (found > column.high)).sum())
    return NumberFigures(rows, missing, rows - missing - len(found), beyond, tuple(bins.tolist()))


def _categories(column: CategoryColumn, values: Values | None, rows: int) -> CategoryFigures:
    if values is None:
        return CategoryFigures(rows, rows, (0,) * len(column.vocabulary), 0, ())
    by_text = Counter(None if item is None else text_of(item) for item in texts(values))
    nulls = by_text.pop(None, 0)
    known = tuple(by_text.pop(text, 0) for text in column.vocabulary)
    frequent = sorted(by_text.items(), key=lambda item: (-item[1], str(item[0])))[:_FREQUENT]
    named = tuple((str(text), found) for text, found in frequent)
    return CategoryFigures(rows, nulls, known, sum(by_text.values()), named)
