"""The rules of freshness for one row at a time, in plain Python: what the service must say of rows together."""

import math
from collections.abc import Sequence

from services.features.freshness.freshness import Source, ViewResult
from services.features.plan.plan import FreshnessRule, ViewPlan

Assessed = tuple[tuple[bytes, ...], int, int]
"""Values, source and age in microseconds."""


def limits(view: ViewPlan, rule: FreshnessRule) -> tuple[float, float]:
    """The maximum ages in seconds: of good values, and of usable values."""
    ttl_s, good_s = view.ttl_s or math.inf, rule.max_age_s or math.inf
    return min(good_s, ttl_s), min(good_s + rule.stale_s, ttl_s)


def assessed(found: ViewResult, now: float) -> list[Assessed]:
    """Each row of the batch."""
    rows = list(found.rows)
    index: Sequence[int] = range(len(rows)) if found.keys.index is None else found.keys.index
    return [
        (found.view.nulls, Source.NOT_FOUND, -1) if i == len(rows) else _one(found, rows[i], now)
        for i in index
    ]


def _one(found: ViewResult, row: tuple[float, tuple[bytes, ...]] | None, now: float) -> Assessed:
    nulls, (good_s, usable_s) = found.view.nulls, found.limits
    absent = Source.NOT_FOUND if found.answered else Source.DEFAULT
    if row is None or (not found.answered and now - row[0] > usable_s):
        return nulls, absent, -1
    age = now - row[0]
    age_us = int(age * 1_000_000) if age > 0 else 0
    if age > usable_s:
        return nulls, Source.OUTSIDE_MAX_AGE, age_us
    good = found.answered and age <= good_s
    return row[1], Source.PRESENT if good else Source.STALE, age_us


def ahead_s(found: ViewResult, now: float) -> float:
    """How far in the future the newest event time is."""
    return max([row[0] - now for row in found.rows if row is not None], default=0.0)
