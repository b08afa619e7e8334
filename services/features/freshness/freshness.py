"""From the rows that a store gave to the columns of a reply, with the age of each row and where it came from."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.features.plan.entity_keys import Keys
from services.features.plan.plan import ViewPlan, nothing_of
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


_PRESENT, _NOT_FOUND, _OUTSIDE, _STALE, _DEFAULT = map(int, Source)


@dataclass(frozen=True, slots=True)
class Rule:
    """How old a caller lets values be, within the time to live: `max_age_s` (0: any age), and then `stale_s` more."""

    max_age_s: float
    stale_s: float


_ANY_AGE = Rule(0.0, 0.0)


@dataclass(slots=True)
class Answer:
    """What is known of a view's distinct keys. `asked`: the store answered; else `rows` come from memory."""

    view: ViewPlan
    keys: Keys
    rows: Rows
    asked: bool
    rule: Rule = _ANY_AGE

    def limits(self) -> tuple[float, float]:
        """Up to which ages (seconds) values are good, and usable at all."""
        ttl = self.view.ttl_s or math.inf
        rule = self.rule
        if not rule.max_age_s:
            return ttl, ttl
        return min(rule.max_age_s, ttl), min(rule.max_age_s + rule.stale_s, ttl)


class Judged(Protocol):
    """A view's rows, one per row of the batch."""

    @property
    def view(self) -> ViewPlan: ...
    @property
    def values(self) -> Sequence[tuple[bytes, ...]]:
        """Per row those of the features, serialised; empty = null."""
        ...

    @property
    def sources(self) -> bytes:
        """One byte per row."""
        ...

    @property
    def ages_us(self) -> list[int]:
        """−1 where no row is known."""
        ...

    @property
    def times(self) -> Sequence[float | None]:
        """Event times, seconds since 1970; None where no row is known."""
        ...

    @property
    def ahead_s(self) -> float:
        """How far the newest of them lies in the future."""
        ...


@dataclass(slots=True)
class JudgedRows:
    """`Judged` row by row; judging.py has the same in columns."""

    view: ViewPlan
    values: Sequence[tuple[bytes, ...]]
    sources: bytes
    ages_us: list[int]
    times: Sequence[float | None]
    ahead_s: float = 0.0


def judge(answer: Answer, now: float) -> JudgedRows:
    """What may be used of an answer as of `now` (seconds since 1970).

    A row that is older than the time to live or the rule allows has no values, but keeps its age. A time in the
    future, as clocks that disagree make them, is of age 0.
    """
    judged = _all_good(answer, now) or _one_by_one(answer, now)
    place = answer.keys.place
    if place is None:
        return judged
    # One more than there are keys: the row of those that have no key. It is not in the store, asked or not.
    values = [*judged.values, nothing_of(answer.view)]
    sources = judged.sources + bytes([_NOT_FOUND])
    ages = [*judged.ages_us, _UNKNOWN_AGE]
    times = [*judged.times, None]
    return JudgedRows(
        answer.view,
        [values[p] for p in place],
        bytes([sources[p] for p in place]),
        [ages[p] for p in place],
        [times[p] for p in place],
        judged.ahead_s,
    )


def _all_good(answer: Answer, now: float) -> JudgedRows | None:
    """The usual case, without a step per row: those that are there are neither too old nor of the future."""
    rows, view = answer.rows, answer.view
    times = [row[0] for row in rows if row is not None]
    if not times or max(times) > now or now - min(times) > answer.limits()[0]:
        return None
    good, absent = (_PRESENT, _NOT_FOUND) if answer.asked else (_STALE, _DEFAULT)
    if len(times) == len(rows):
        values = [values for _, values in rows]  # type: ignore[misc]  # none of them is None
        ages = [int((now - time) * _MICRO) for time in times]
        return JudgedRows(view, values, bytes((good,)) * len(rows), ages, times)
    nothing = nothing_of(view)
    return JudgedRows(
        view,
        [nothing if row is None else row[1] for row in rows],
        bytes([absent if row is None else good for row in rows]),
        [_UNKNOWN_AGE if row is None else int((now - row[0]) * _MICRO) for row in rows],
        [None if row is None else row[0] for row in rows],
    )


def _one_by_one(answer: Answer, now: float) -> JudgedRows:
    view, asked, rows = answer.view, answer.asked, answer.rows
    good_s, usable_s = answer.limits()
    good, absent = (_PRESENT, _NOT_FOUND) if asked else (_STALE, _DEFAULT)
    nothing = nothing_of(view)
    ages = [math.inf if row is None else now - row[0] for row in rows]
    if not asked:
        # What is remembered but too old is no better than nothing: the store may hold something newer.
        rows = [row if age <= usable_s else None for row, age in zip(rows, ages, strict=True)]
    sources = [
        good if age <= good_s else _STALE if age <= usable_s else _OUTSIDE if row else absent
        for row, age in zip(rows, ages, strict=True)
    ]
    return JudgedRows(
        view,
        [row[1] if row and age <= usable_s else nothing for row, age in zip(rows, ages, strict=True)],
        bytes([s if row else absent for s, row in zip(sources, rows, strict=True)]),
        [
            _UNKNOWN_AGE if row is None else int(age * _MICRO) if age > 0 else 0
            for row, age in zip(rows, ages, strict=True)
        ],
        [row and row[0] for row in rows],
        max(0.0, -min(ages, default=0.0)),
    )


def held(judged: Judged, rule: Rule) -> Judged:
    """A view that was worked out, held to a rule by the age of the oldest of what it was made of."""
    good_us, usable_us = rule.max_age_s * _MICRO, (rule.max_age_s + rule.stale_s) * _MICRO
    ages = judged.ages_us
    if not rule.max_age_s or max(ages, default=0) <= good_us:
        return judged
    values, sources, nothing = list(judged.values), bytearray(judged.sources), nothing_of(judged.view)
    for i, age in enumerate(ages):
        if age > good_us and sources[i] in (_PRESENT, _STALE):
            sources[i] = _STALE if age <= usable_us else _OUTSIDE
            values[i] = values[i] if age <= usable_us else nothing
    return JudgedRows(judged.view, values, bytes(sources), ages, judged.times, judged.ahead_s)


def by_feature_of(judged: Judged) -> Sequence[Sequence[bytes]]:
    """The values the other way round: per feature those of all rows."""
    return list(zip(*judged.values, strict=True)) or [()] * len(judged.view.features)
