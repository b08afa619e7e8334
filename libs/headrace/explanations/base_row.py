"""The base row, which a prediction is compared with: what a usual case looks like.

A value comes from the first of these that has one: the pipeline's document (`explanations.base`), the signed baseline of the
model's version (the median, the most frequent category), the default of the input, a null where the column may be null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import Column, DType
from headrace.drift.baseline import Baseline, ColumnBaseline, NumberBaseline
from headrace.explanations.errors import ExplanationError
from headrace.pipeline import ColumnType
from headrace.pipeline.types import Scalar

DOCUMENT, BASELINE, DEFAULT, NULL = "document", "baseline", "default", "null"
# Of the patches of an image.
BLANK = "blank"


@dataclass(frozen=True, slots=True)
class Player:
    """A declared input, or a column of the feature store, that the explained output depends on."""

    name: str
    type: ColumnType
    nullable: bool
    default: Scalar | None = None


@dataclass(frozen=True, slots=True)
class BaseRow:
    """`columns`: one row of each player. `sources`: where each value comes from."""

    columns: Mapping[str, Column]
    sources: Mapping[str, str]


def base_row(players: Iterable[Player], declared: Mapping[str, Scalar], baseline: Baseline | None) -> BaseRow:
    """The base row. `declared`: what the document says, of the columns' types.

    Raises ExplanationError: a column that must have a value has none anywhere.
    """
    columns, sources = {}, {}
    known = baseline.columns if baseline is not None else {}
    for player in players:
        usual = usual_value(known[player.name], player.type) if player.name in known else None
        if player.name in declared:
            value, source = declared[player.name], DOCUMENT
        elif usual is not None and not player.type.row_shape:
            value, source = usual, BASELINE
        elif player.default is not None:
            value, source = player.default, DEFAULT
        elif player.nullable:
            value, source = None, NULL
        else:
            raise ExplanationError(
                "base",
                f"the base row has no value for {player.name!r}",
                f"write one into the document: `explanations: {{base: {{{player.name}: …}}}}`,"
                " or publish the model with a baseline",
                player.name,
            )
        columns[player.name] = one_row(player.name, player.type, value)
        sources[player.name] = source
    return BaseRow(columns, sources)


def one_row(name: str, kind: ColumnType, value: Scalar | None) -> Column:
    """A column of one row; each of its elements is the value. None: a null."""
    size = int(np.prod(kind.row_shape, dtype=np.int64))
    valid = np.array([False]) if value is None else None
    if kind.dtype is DType.BYTES:
        text = value if isinstance(value, bytes) else b""
        made = Column.of_bytes(name, [text] * size, kind.row_shape)
        return Column(name, DType.BYTES, made.values, kind.row_shape, valid)
    filled = np.full((1, *kind.row_shape), 0 if value is None else value, kind.dtype.numpy)
    return Column(name, kind.dtype, filled, kind.row_shape, valid)


def usual_value(about: ColumnBaseline, kind: ColumnType) -> Scalar | None:
    """The median of numbers, the most frequent text; None: nothing was known, or the column has another type."""
    if isinstance(about, NumberBaseline):
        middle = median(about)
        if middle is None or kind.dtype is DType.BYTES:
            return None
        if kind.dtype.is_float:
            return middle
        low, high = kind.dtype.bounds
        return min(max(round(middle), low), high)
    if kind.dtype is not DType.BYTES or not any(about.categories.values()):
        return None
    # Of equally frequent ones the first by name, so that it is the same everywhere.
    return min(about.categories, key=lambda text: (-about.categories[text], text)).encode()


def median(about: NumberBaseline) -> float | None:
    """The median as well as bins tell: as if values lay evenly between the edges of their bin. None: there were no values."""
    total = sum(about.counts)
    if not total or about.low is None or about.high is None:
        return None
    bounds = [min(about.low, *about.edges[:1]), *about.edges, max(about.high, *about.edges[-1:])]
    below, half = 0, total / 2
    for place, count in enumerate(about.counts):
        if below + count >= half and count:
            left, right = max(bounds[place], about.low), min(bounds[place + 1], about.high)
            return left + (right - left) * (half - below) / count
        below += count
    return about.high
