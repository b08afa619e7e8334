"""From the rows that a store gave to the columns of a reply, with the age of each row and where it came from."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from services.features.keying import Keys
from services.features.planning import Feature, ViewPlan
from services.features.ports import StoredRow, Value

_MICRO = 1_000_000


class Source(enum.IntEnum):
    """Numbered as headrace.api.features.v1.Source."""

    PRESENT = 1
    NOT_FOUND = 2
    OUTSIDE_MAX_AGE = 3
    STALE = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a view's distinct keys. `asked`: the store answered; else `rows` come from memory."""

    view: ViewPlan
    keys: Keys
    rows: Sequence[StoredRow | None]
    asked: bool


@dataclass(frozen=True, slots=True)
class Shaped:
    """The columns of one view. `sources` uint8 and `ages_us` int64, (rows,) each; an age is −1 where no row is known."""

    columns: list[Column]
    sources: NDArray[np.uint8]
    ages_us: NDArray[np.int64]


def shape(answer: Answer, now: float) -> Shaped:
    """Columns for every row of the batch, as of `now` (seconds since 1970).

    A row that is older than the time to live has no values, but keeps its age. Times in the future are of age 0.
    """
    view, place = answer.view, answer.keys.place
    # One more than there are keys: the row of those that have no key.
    rows = [*answer.rows, None]
    times = np.array([-1.0 if row is None else row[0] for row in rows])
    ages = np.maximum(now - times, 0.0)
    known = np.array([row is not None for row in rows])
    usable = known & (ages <= view.ttl_s) if view.ttl_s else known
    sources = _sources(answer, known, usable)[place]
    ages_us = np.where(known if answer.asked else usable, ages * _MICRO, -1).astype(np.int64)[place]
    empty: tuple[Value, ...] = (None,) * len(view.features)
    usable_rows = [row[1] if row and use else empty for row, use in zip(rows, usable.tolist(), strict=True)]
    values = zip(*usable_rows, strict=True)
    columns = [_column(f, v).take(place) for f, v in zip(view.features, values, strict=True)]
    columns.append(Column.of(f"@age_us/{view.name}", ages_us))
    columns.append(Column.of(f"@source/{view.name}", sources))
    return Shaped(columns, sources, ages_us)


def _sources(answer: Answer, known: NDArray[np.bool_], usable: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if answer.asked:
        found = np.where(usable, Source.PRESENT, np.where(known, Source.OUTSIDE_MAX_AGE, Source.NOT_FOUND))
    else:
        # What is remembered but too old is no better than nothing: the store may hold something newer.
        found = np.where(usable, Source.STALE, Source.DEFAULT)
        # A row without a key is not in the store, whether or not it can be asked.
        found[-1] = Source.NOT_FOUND
    return found.astype(np.uint8)


def _column(feature: Feature, values: Sequence[Value]) -> Column:
    if feature.dtype is DType.BYTES:
        return Column.of_bytes(feature.name, values)  # type: ignore[arg-type]  # the plan says that they are bytes
    valid = np.array([v is not None for v in values])
    array = np.array([0 if v is None else v for v in values], feature.dtype.numpy)
    if feature.dtype.is_float:
        valid &= ~np.isnan(array)
        array[~valid] = 0
    return Column(feature.name, feature.dtype, array, (), None if valid.all() else valid)
