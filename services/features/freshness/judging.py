"""Judges rows that came as columns: the same as shaping.judge, for all rows of all such views at once.

NumPy takes about as long for five views as for one: what costs is the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.cache.column_table import Block, Times
from services.features.freshness.freshness import Answer, Source
from services.features.plan.plan import ViewPlan, nothing_of

_MICRO = 1_000_000
_PRESENT, _NOT_FOUND, _OUTSIDE, _STALE = (
    int(s) for s in (Source.PRESENT, Source.NOT_FOUND, Source.OUTSIDE_MAX_AGE, Source.STALE)
)


class Ages(NamedTuple):
    """Microseconds of each row, −1 where there is none; the least of all, the greatest and their sum."""

    each: NDArray[np.int64]
    least: int
    greatest: int
    total: int


class JudgedColumns:
    """`Judged`, with what replies of columns take: `columns` (rows, features), NaN = null, and `ages`.

    The rest is for Feast's messages and on-demand views, and made when they ask for it.
    """

    def __init__(
        self,
        answer: Answer,
        block: Block,
        columns: Array,
        times: Times,
        sources: bytes,
        ages: Ages,
        ahead_s: float,
    ) -> None:
        self.view: ViewPlan = answer.view
        self.columns = columns
        self.sources = sources
        self.ages = ages
        self.ahead_s = ahead_s
        self._block, self._place, self._times = block, answer.keys.place, times

    @cached_property
    def values(self) -> list[tuple[bytes, ...]]:
        """See Judged."""
        nothing = nothing_of(self.view)
        rows = [nothing if row is None else row[1] for row in self._block]
        if self._place is not None:
            rows.append(nothing)
            rows = [rows[p] for p in self._place]
        if _OUTSIDE not in self.sources:
            return rows
        return [nothing if s == _OUTSIDE else row for s, row in zip(self.sources, rows, strict=True)]

    @cached_property
    def ages_us(self) -> list[int]:
        """See Judged."""
        found: list[int] = self.ages.each.tolist()
        return found

    @cached_property
    def times(self) -> list[float | None]:
        """See Judged."""
        found: list[float | None] = self._times.tolist()
        if _NOT_FOUND in self.sources:
            return [time if time == time else None for time in found]
        return found


def judge_columns(answers: Sequence[tuple[Answer, Block]], now: float) -> list[JudgedColumns]:
    """What may be used of answers that are blocks, all of the same batch, which has rows. The store must vouch for
    them all."""
    taken = [block.spread(answer.keys.at) for answer, block in answers]
    ages_s = now - np.array([times for _, times in taken])
    limits = [answer.limits() for answer, _ in answers]
    # One entity that is not there makes both NaN.
    youngest, oldest = ages_s.min(axis=1).tolist(), ages_s.max(axis=1).tolist()
    if all([y >= 0 and o <= good for y, o, (good, _) in zip(youngest, oldest, limits, strict=True)]):  # noqa: C419 - quicker as a list
        sources = bytes((_PRESENT,)) * (len(taken) * ages_s.shape[1])
        return _made(answers, taken, sources, (ages_s * _MICRO).astype(np.int64), [0.0] * len(taken))
    good, usable = np.array(limits).T[:, :, None]
    absent, outside = np.isnan(ages_s), ages_s > usable
    found = np.full(ages_s.shape, _PRESENT, np.uint8)
    found[ages_s > good] = _STALE
    found[outside] = _OUTSIDE
    found[absent] = _NOT_FOUND
    taken = [
        (np.where(gone[:, None], c.dtype.type(np.nan), c) if any_gone else c, times)
        for (c, times), gone, any_gone in zip(taken, outside, outside.any(axis=1).tolist(), strict=True)
    ]
    ages = np.where(absent, -1, np.maximum(ages_s, 0) * _MICRO).astype(np.int64)
    ahead = [-least for least in np.fmin.reduce(ages_s, axis=1, initial=0.0).tolist()]
    return _made(answers, taken, found.tobytes(), ages, ahead)


def _made(
    answers: Sequence[tuple[Answer, Block]],
    taken: Sequence[tuple[Array, Times]],
    sources: bytes,
    ages: NDArray[np.int64],
    ahead: Sequence[float],
) -> list[JudgedColumns]:
    rows = ages.shape[1]
    told = zip(
        ages, ages.min(axis=1).tolist(), ages.max(axis=1).tolist(), ages.sum(axis=1).tolist(), strict=True
    )
    return [
        JudgedColumns(answer, block, *its, sources[i * rows : (i + 1) * rows], Ages(*ages), ahead[i])
        for i, ((answer, block), its, ages) in enumerate(zip(answers, taken, told, strict=True))
    ]
