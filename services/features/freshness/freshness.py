"""Freshness: the age and the source of each row that was found, and which values may be used.

All views of a batch are handled together: NumPy takes about as long for five views as for one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.cache.column_table import TableRows, Times
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import FreshnessRule, ViewPlan
from services.features.stores.online_store import Rows

_MICRO = 1_000_000
_UNKNOWN_AGE = -1


class Source(enum.IntEnum):
    """Numbered as headrace.api.features.v1.Source."""

    PRESENT = 1
    NOT_FOUND = 2
    OUTSIDE_MAX_AGE = 3
    STALE = 4
    DEFAULT = 5


# The class of a row by its age. The class, and whether the store answered, determine the row's source.
_GOOD, _AGED, _TOO_OLD, _ABSENT = range(4)
_SOURCES_OF_STORE = bytes(
    [Source.PRESENT, Source.STALE, Source.OUTSIDE_MAX_AGE, Source.NOT_FOUND] + [0] * 252
)
# A last-known value that is too old is treated as a missing value: the store may hold a newer one.
_SOURCES_OF_MEMORY = bytes([Source.STALE, Source.STALE, Source.DEFAULT, Source.DEFAULT] + [0] * 252)
_HIDDEN = bytes([0, 0, 1, 0] + [0] * 252)
_PRESENT = bytes([Source.PRESENT])
_NAN = math.nan


class ViewResult:
    """One view's rows for a batch.

    `rows`: one per key of `keys`. `answered`: the store answered; if not, they are the last-known rows. `limits`: see
    ServicePlan. `assess` fills in the others: `sources`: a Source per row of the batch, as a byte. `ages_us`: microseconds
    (int64), −1 where no row is known. `ahead_s`: how far in the future the newest event time is. `hidden`: a byte per row, 1
    where values must not be used; empty: use all.
    """

    sources: bytes
    ages_us: NDArray[np.int64]
    ahead_s = 0.0
    hidden = b""

    def __init__(
        self,
        view: ViewPlan,
        keys: EntityKeys,
        rows: Rows | TableRows,
        answered: bool = True,
        limits: tuple[float, float] = (math.inf, math.inf),
    ) -> None:
        self.view = view
        self.keys = keys
        self.rows = rows
        self.answered = answered
        self.limits = limits

    def times(self) -> Sequence[float] | Times:
        """The event time (seconds since 1970) of each row of the batch; NaN: absent."""
        if isinstance(self.rows, TableRows):
            return self.rows.times(self.keys.index_array)
        times = [_NAN if row is None else row[0] for row in self.rows]
        if self.keys.index is None:
            return times
        times.append(_NAN)
        return list(map(times.__getitem__, self.keys.index))

    def values(self) -> list[tuple[bytes, ...]]:
        """Per row of the batch, the serialised values of the features; empty = null."""
        nulls = self.view.nulls
        values = [nulls if row is None else row[1] for row in self.rows]
        if self.keys.index is not None:
            values.append(nulls)
            values = list(map(values.__getitem__, self.keys.index))
        if self.hidden:
            return [nulls if hidden else row for hidden, row in zip(self.hidden, values, strict=True)]
        return values

    def by_feature(self) -> Sequence[Sequence[bytes]]:
        return list(zip(*self.values(), strict=True)) or [()] * len(self.view.features)

    def floats(self) -> Array | None:
        """The values as (rows, features), NaN = null; None if they are not all floats in the usual form."""
        if not isinstance(self.rows, TableRows):
            packer = self.view.floats
            return None if packer is None else packer.matrix(self.values())
        found = self.rows.floats(self.keys.index_array)
        if not self.hidden:
            return found
        return np.where(np.frombuffer(self.hidden, bool)[:, None], found.dtype.type(np.nan), found)


def assess(found: Sequence[ViewResult], now: float) -> bool:
    """Decides per view which rows of a batch may be used at `now` (seconds since 1970). Returns whether all are present.

    A row that is older than the time to live or the rule allows has no values, but keeps its age. An event time in the
    future, which is caused by clocks that disagree, has age 0.
    """
    if not found:
        return False
    ages_s = now - np.array([one.times() for one in found])
    if not _all_good(found, ages_s):
        _assess_each(found, ages_s)
        return False
    sources = _PRESENT * ages_s.shape[1]
    for one, ages_us in zip(found, (ages_s * _MICRO).astype(np.int64), strict=True):
        one.sources = sources
        one.ages_us = ages_us
    return True


def _all_good(found: Sequence[ViewResult], ages_s: Array) -> bool:
    """Whether this is the usual case: the store has all rows, and none is too old or in the future."""
    rows = ages_s.shape[1]
    if rows == 1:
        youngest = oldest = ages_s.ravel().tolist()
    elif rows:
        # Both are NaN if a row is absent.
        youngest, oldest = np.minimum.reduce(ages_s, 1).tolist(), np.maximum.reduce(ages_s, 1).tolist()
    else:
        return False
    for one, young, old in zip(found, youngest, oldest, strict=True):
        if not (young >= 0 and old <= one.limits[0] and one.answered):
            return False
    return True


def _assess_each(found: Sequence[ViewResult], ages_s: Array) -> None:
    bounds = np.array([one.limits for one in found])
    findings = (ages_s > bounds[:, :1]).view(np.uint8) + (ages_s > bounds[:, 1:])
    absent = np.isnan(ages_s)
    findings[absent] = _ABSENT
    ages_us = (np.fmax(ages_s, 0) * _MICRO).astype(np.int64)
    ages_us[absent] = _UNKNOWN_AGE
    ahead = np.fmin.reduce(ages_s, 1, initial=0.0).tolist()
    for i, one in enumerate(found):
        told = findings[i].tobytes()
        if _TOO_OLD in told:
            one.hidden = told.translate(_HIDDEN)
        if one.answered:
            one.sources = told.translate(_SOURCES_OF_STORE)
        else:
            one.sources = _sources_of_memory(one, told)
            ages_us[i, findings[i] == _TOO_OLD] = _UNKNOWN_AGE
        one.ages_us, one.ahead_s = ages_us[i], -ahead[i]


def _sources_of_memory(one: ViewResult, told: bytes) -> bytes:
    sources = told.translate(_SOURCES_OF_MEMORY)
    index, without_key = one.keys.index, len(one.keys.keys)
    if index is None or without_key not in index:
        return sources
    # A row without a key can't be in the store, even if the store does not answer.
    return bytes([Source.NOT_FOUND if i == without_key else s for i, s in zip(index, sources, strict=True)])


def hold_to_rule(result: ViewResult, rule: FreshnessRule) -> ViewResult:
    """Applies a rule to the result of an on-demand view, by the age of its oldest input."""
    good_us, usable_us = rule.max_age_s * _MICRO, (rule.max_age_s + rule.stale_s) * _MICRO
    if not rule.max_age_s or result.ages_us.max(initial=0) <= good_us:
        return result
    sources, hidden = bytearray(result.sources), bytearray(len(result.sources))
    for i, age in enumerate(result.ages_us.tolist()):
        if age > good_us and sources[i] in (Source.PRESENT, Source.STALE):
            hidden[i] = age > usable_us
            sources[i] = Source.OUTSIDE_MAX_AGE if hidden[i] else Source.STALE
    held = copy(result)
    held.sources, held.hidden = bytes(sources), bytes(hidden)
    return held
