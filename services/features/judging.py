"""Judges rows that came as columns: the same as shaping.judge, for all rows at once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.planning import ViewPlan
from services.features.shaping import Answer, Source, nothing_of
from services.features.tabulating import Block, Times

_MICRO = 1_000_000
_PRESENT, _NOT_FOUND, _OUTSIDE, _STALE = (
    int(s) for s in (Source.PRESENT, Source.NOT_FOUND, Source.OUTSIDE_MAX_AGE, Source.STALE)
)


class JudgedColumns:
    """`Judged`, with what replies of columns take: `columns` (rows, features), NaN = null, and `ages`, microseconds.

    The rest is for Feast's messages and on-demand views, and made when they ask for it.
    """

    def __init__(
        self,
        view: ViewPlan,
        block: Block,
        place: list[int] | None,
        columns: Array,
        times: Times,
        sources: bytes,
        ages: NDArray[np.int64],
        ahead_s: float = 0.0,
    ) -> None:
        self.view = view
        self.columns = columns
        self.sources = sources
        self.ages = ages
        self.ahead_s = ahead_s
        self._block, self._place, self._times = block, place, times

    @cached_property
    def values(self) -> list[tuple[bytes, ...]]:
        """See Judged."""
        nothing = nothing_of(self.view)
        rows = [nothing if row is None else row[1] for row in self._block]
        if self._place is not None:
            rows.append(nothing)
            rows = [rows[p] for p in self._place]
        if _OUTSIDE in self.sources:
            return [nothing if s == _OUTSIDE else row for s, row in zip(self.sources, rows, strict=True)]
        return rows

    @cached_property
    def ages_us(self) -> list[int]:
        """See Judged."""
        found: list[int] = self.ages.tolist()
        return found

    @cached_property
    def times(self) -> list[float | None]:
        """See Judged."""
        return [time if time == time else None for time in self._times.tolist()]


def judge_columns(answer: Answer, block: Block, now: float) -> JudgedColumns:
    """What may be used of an answer whose rows are `block`. The store vouches for them: a block is of current rows."""
    view, place = answer.view, answer.keys.place
    columns, times = block.columns, block.times
    if place is not None:
        columns, times = _spread(columns, times, place)
    ages_s = now - times
    good_s, usable_s = answer.limits()
    youngest, oldest = ages_s.min(), ages_s.max()
    # One entity that is not there makes both NaN.
    if youngest >= 0 and oldest <= good_s:
        sources = bytes((_PRESENT,)) * len(times)
        return JudgedColumns(view, block, place, columns, times, sources, (ages_s * _MICRO).astype(np.int64))
    absent = np.isnan(times)
    found = np.full(len(times), _PRESENT, np.uint8)
    found[ages_s > good_s] = _STALE
    outside = ages_s > usable_s
    found[outside] = _OUTSIDE
    found[absent] = _NOT_FOUND
    if outside.any():
        columns = np.where(outside[:, None], columns.dtype.type(np.nan), columns)
    ages = np.where(absent, -1, np.maximum(ages_s, 0) * _MICRO).astype(np.int64)
    ahead_s = max(0.0, -float(np.fmin.reduce(ages_s, initial=0.0)))
    return JudgedColumns(view, block, place, columns, times, found.tobytes(), ages, ahead_s)


def _spread(columns: Array, times: Times, place: list[int]) -> tuple[Array, Times]:
    """From keys to rows; rows without a key are not in the store."""
    at = np.array(place, np.intp)
    if at.max() == len(times):
        columns = np.concatenate([columns, np.full((1, columns.shape[1]), np.nan, columns.dtype)])
        times = np.append(times, np.nan)
    return columns[at], times[at]
