"""Freshness: the age and the source of each row that was found, and which values may be used.

All views of a batch are handled together: NumPy takes about as long for five views as for one.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns.column import Array
from services.features.cache.column_table import TableRows, Times
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import ViewPlan, null_values
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


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """The ages that a caller allows, within the time to live. `max_age_s`: good values (0: any age); `stale_s`: this much
    older, values are usable but stale."""

    max_age_s: float
    stale_s: float


ANY_AGE = FreshnessRule(0.0, 0.0)


@dataclass(slots=True)
class FoundRows:
    """The rows found for a view's distinct keys. `answered`: the store answered; if not, they are the last-known rows."""

    view: ViewPlan
    keys: EntityKeys
    rows: Rows | TableRows
    answered: bool
    rule: FreshnessRule = ANY_AGE

    def limits(self) -> tuple[float, float]:
        """The maximum ages in seconds: of good values, and of usable values."""
        ttl = self.view.ttl_s or math.inf
        rule = self.rule
        if not rule.max_age_s:
            return ttl, ttl
        return min(rule.max_age_s, ttl), min(rule.max_age_s + rule.stale_s, ttl)

    def times(self) -> Sequence[float] | Times:
        """The event time (seconds since 1970) of each row of the batch; NaN: absent."""
        if isinstance(self.rows, TableRows):
            return self.rows.times(self.keys.index_array)
        times = [math.nan if row is None else row[0] for row in self.rows]
        if self.keys.index is None:
            return times
        times.append(math.nan)
        return [times[i] for i in self.keys.index]

    def values(self) -> list[tuple[bytes, ...]]:
        """The stored values of each row of the batch."""
        nulls = null_values(self.view)
        values = [nulls if row is None else row[1] for row in self.rows]
        if self.keys.index is None:
            return values
        values.append(nulls)
        return [values[i] for i in self.keys.index]


class ViewResult:
    """One view's rows, one per row of the batch.

    `sources`: a Source per row, as a byte. `ages_us`: microseconds (int64), −1 where no row is known. `ahead_s`: how far in
    the future the newest event time is. `hidden`: a byte per row, 1 where values must not be used; empty: use all.
    """

    def __init__(
        self,
        view: ViewPlan,
        rows: FoundRows | list[tuple[bytes, ...]],
        sources: bytes,
        ages_us: NDArray[np.int64],
        ahead_s: float = 0.0,
        hidden: bytes = b"",
    ) -> None:
        """`rows`: the rows that hold the values; a list for computed values, which have no event times."""
        self.view = view
        self.sources = sources
        self.ages_us = ages_us
        self.ahead_s = ahead_s
        self._rows = rows
        self._hidden = hidden

    def values(self) -> list[tuple[bytes, ...]]:
        """Per row, the serialised values of the features; empty = null."""
        values = self._rows.values() if isinstance(self._rows, FoundRows) else self._rows
        if not self._hidden:
            return values
        nulls = null_values(self.view)
        return [nulls if hidden else row for hidden, row in zip(self._hidden, values, strict=True)]

    def by_feature(self) -> Sequence[Sequence[bytes]]:
        """Per feature, the values of all rows."""
        return list(zip(*self.values(), strict=True)) or [()] * len(self.view.features)

    @property
    def in_table(self) -> bool:
        """Whether the values come as an array already."""
        return isinstance(self._rows, FoundRows) and isinstance(self._rows.rows, TableRows)

    def floats(self) -> Array | None:
        """The values as (rows, features), NaN = null; None if they are not all floats in the usual form."""
        if not isinstance(self._rows, FoundRows) or not isinstance(self._rows.rows, TableRows):
            packer = self.view.floats
            return None if packer is None else packer.matrix(self.values())
        found = self._rows.rows.floats(self._rows.keys.index_array)
        if not self._hidden:
            return found
        return np.where(np.frombuffer(self._hidden, bool)[:, None], found.dtype.type(np.nan), found)

    def part(self, start: int, stop: int) -> ViewResult:
        """The sources of some of the rows, without values."""
        return ViewResult(self.view, [], self.sources[start:stop], self.ages_us[start:stop])

    def event_times(self) -> list[float | None]:
        """Per row, seconds since 1970; None where no event time is known."""
        if not isinstance(self._rows, FoundRows):
            return [None] * len(self.sources)
        ages = self.ages_us.tolist()
        return [None if age < 0 else time for age, time in zip(ages, self._rows.times(), strict=True)]


def assess(found: Sequence[FoundRows], now: float) -> list[ViewResult]:
    """Decides per view which rows of a batch may be used at `now` (seconds since 1970).

    A row that is older than the time to live or the rule allows has no values, but keeps its age. An event time in the
    future, which is caused by clocks that disagree, has age 0.
    """
    if not found:
        return []
    ages_s = now - np.array([view.times() for view in found])
    limits = [view.limits() for view in found]
    if not _all_good(found, ages_s, limits):
        return _each(found, ages_s, limits)
    sources = _PRESENT * ages_s.shape[1]
    ages_us = (ages_s * _MICRO).astype(np.int64)
    return [ViewResult(view.view, view, sources, its) for view, its in zip(found, ages_us, strict=True)]


def _all_good(found: Sequence[FoundRows], ages_s: Array, limits: Sequence[tuple[float, float]]) -> bool:
    """Whether this is the usual case: the store has all rows, and none is too old or in the future."""
    rows = ages_s.shape[1]
    if rows == 1:
        youngest = oldest = ages_s.ravel().tolist()
    elif rows:
        # Both are NaN if a row is absent.
        youngest, oldest = np.minimum.reduce(ages_s, 1).tolist(), np.maximum.reduce(ages_s, 1).tolist()
    else:
        return False
    for view, young, old, (good, _) in zip(found, youngest, oldest, limits, strict=True):
        if not (view.answered and young >= 0 and old <= good):
            return False
    return True


def _each(
    found: Sequence[FoundRows], ages_s: Array, limits: Sequence[tuple[float, float]]
) -> list[ViewResult]:
    bounds = np.array(limits)
    findings = (ages_s > bounds[:, :1]).view(np.uint8) + (ages_s > bounds[:, 1:])
    absent = np.isnan(ages_s)
    findings[absent] = _ABSENT
    ages_us = (np.fmax(ages_s, 0) * _MICRO).astype(np.int64)
    ages_us[absent] = _UNKNOWN_AGE
    ahead = np.fmin.reduce(ages_s, 1, initial=0.0).tolist()
    results = []
    for i, view in enumerate(found):
        told = findings[i].tobytes()
        hidden = told.translate(_HIDDEN) if _TOO_OLD in told else b""
        if view.answered:
            sources = told.translate(_SOURCES_OF_STORE)
        else:
            sources = _sources_of_memory(view, told)
            ages_us[i, findings[i] == _TOO_OLD] = _UNKNOWN_AGE
        results.append(ViewResult(view.view, view, sources, ages_us[i], -ahead[i], hidden))
    return results


def _sources_of_memory(view: FoundRows, told: bytes) -> bytes:
    sources = told.translate(_SOURCES_OF_MEMORY)
    index, without_key = view.keys.index, len(view.keys.keys)
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
    return ViewResult(
        result.view, result.values(), bytes(sources), result.ages_us, result.ahead_s, bytes(hidden)
    )
