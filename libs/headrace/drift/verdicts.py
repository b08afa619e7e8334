"""Judges the figures of rows against a baseline: which columns differ, by which test, and how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.drift.baseline import Baseline, CategoryBaseline, NumberBaseline, Role
from headrace.drift.counting import CategoryFigures, Figures, NumberFigures
from headrace.drift.proportions import two_sided_p
from headrace.drift.stability import noise_floor, stability

# Categories with a smaller share of the baseline are one bucket: few rows of each are noise.
_RARE = 0.01
_NAMED = 3
_SHOWN = 32


class Check(StrEnum):
    """What is compared."""

    DISTRIBUTION = "distribution"
    NULLS = "nulls"
    NON_FINITE = "non_finite"
    OUT_OF_RANGE = "out_of_range"
    UNSEEN = "unseen"


class Level(StrEnum):
    """How bad it is."""

    FINE = "fine"
    ALERT = "alert"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Limits:
    """What makes an alarm.

    `alpha`: probability that a window in which nothing changed raises any alarm at all; shared by all columns and checks.
    `psi_alert`, `psi_page`: effect sizes; `share_alert`, `share_page`: differences of a share. A smaller one is no alarm, however
    sure it is.
    """

    alpha: float = 1e-5
    psi_alert: float = 0.1
    psi_page: float = 0.25
    share_alert: float = 0.001
    share_page: float = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of one column. `value`: PSI, or the share in the window; `before`: the share in the baseline (0 for PSI);
    `limit`: what the PSI, or the difference of the shares, must exceed. `categories`: unseen ones, the most frequent first."""

    column: str
    role: Role
    check: Check
    level: Level
    value: float
    before: float
    limit: float
    rows: int
    categories: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{self.column} ({self.role})"
        if self.check is Check.DISTRIBUTION:
            return f"{what}: its distribution differs, PSI {self.value:.3f} over {self.limit:.3f} in {self.rows} rows"
        named = f" ({', '.join(self.categories)})" if self.categories else ""
        return f"{what}: {self.check}{named} {self.value:.2%}, was {self.before:.2%}, in {self.rows} rows"


def judge(baseline: Baseline, figures: Figures, limits: Limits) -> list[Verdict]:
    """All checks of all columns that are watched and had rows. The figures are of the baseline's `counted` columns."""
    asked = [
        c for name, about in baseline.columns.items() if about.watched for c in _asked(name, about, figures)
    ]
    alpha = limits.alpha / max(len(asked), 1)
    return [question.answer(alpha, limits) for question in asked]


@dataclass(frozen=True, slots=True)
class _Shares:
    """Is a share another one than before?"""

    column: str
    role: Role
    check: Check
    bad: int
    rows: int
    bad_before: int
    rows_before: int
    categories: tuple[str, ...] = ()

    def answer(self, alpha: float, limits: Limits) -> Verdict:
        now, before = self.bad / self.rows, self.bad_before / self.rows_before
        apart = abs(now - before)
        level = Level.FINE
        if apart >= limits.share_alert and (
            two_sided_p(self.bad, self.rows, self.bad_before, self.rows_before) < alpha
        ):
            level = Level.PAGE if apart >= limits.share_page else Level.ALERT
        return Verdict(
            self.column,
            self.role,
            self.check,
            level,
            now,
            before,
            limits.share_alert,
            self.rows,
            self.categories if level is not Level.FINE else (),
        )


@dataclass(frozen=True, slots=True)
class _Histograms:
    """Is a distribution another one than before?"""

    column: str
    role: Role
    before: Sequence[int]
    now: Sequence[int]

    def answer(self, alpha: float, limits: Limits) -> Verdict:
        value, rows = stability(self.before, self.now), sum(self.now)
        buckets = sum(1 for a, b in zip(self.before, self.now, strict=True) if a or b)
        limit = max(limits.psi_alert, noise_floor(sum(self.before), rows, buckets, alpha))
        level = Level.FINE
        if value > limit:
            level = Level.PAGE if value > limits.psi_page else Level.ALERT
        return Verdict(self.column, self.role, Check.DISTRIBUTION, level, value, 0.0, limit, rows)


def _asked(
    name: str, about: NumberBaseline | CategoryBaseline, figures: Figures
) -> Iterator[_Shares | _Histograms]:
    """What can be asked of a column; nothing if either side had no rows."""
    found = figures.get(name)
    if found is None or not found.rows or not about.rows:
        return
    if isinstance(about, NumberBaseline):
        assert isinstance(found, NumberFigures), "as the baseline's column is counted"
        yield from _asked_of_numbers(name, about, found)
    else:
        assert isinstance(found, CategoryFigures), "as the baseline's column is counted"
        yield from _asked_of_categories(name, about, found)


def _asked_of_numbers(
    name: str, about: NumberBaseline, found: NumberFigures
) -> Iterator[_Shares | _Histograms]:
    yield _Shares(name, about.role, Check.NULLS, found.nulls, found.rows, about.nulls, about.rows)
    yield _Shares(
        name, about.role, Check.NON_FINITE, found.non_finite, found.rows, about.non_finite, about.rows
    )
    values_before = sum(about.counts)
    if not found.values or not values_before:
        return
    yield _Shares(name, about.role, Check.OUT_OF_RANGE, found.out_of_range, found.values, 0, values_before)
    yield _Histograms(name, about.role, about.counts, found.bins)


def _asked_of_categories(
    name: str, about: CategoryBaseline, found: CategoryFigures
) -> Iterator[_Shares | _Histograms]:
    yield _Shares(name, about.role, Check.NULLS, found.nulls, found.rows, about.nulls, about.rows)
    values_before = about.rows - about.nulls
    if not found.values or not values_before:
        return
    named = tuple(repr(text[:_SHOWN]) for text, _ in found.frequent[:_NAMED])
    yield _Shares(
        name, about.role, Check.UNSEEN, found.unseen, found.values, about.unseen, values_before, named
    )
    counts = list(about.categories.values())
    common = [i for i, count in enumerate(counts) if count >= _RARE * values_before]
    yield _Histograms(
        name,
        about.role,
        _gathered(counts, common, values_before),
        _gathered(found.counts, common, found.values),
    )


def _gathered(counts: Sequence[int], common: Sequence[int], values: int) -> list[int]:
    """Rows of each common category, and of all others together."""
    kept = [counts[i] for i in common]
    return [*kept, values - sum(kept)]
