"""Judges the figures of rows against a baseline: which columns differ, by which test, and how much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.drift.baseline import Baseline, CategoryBaseline, NumberBaseline, Role
from headrace.drift.column_figures import CategoryFigures, Figures, NumberFigures
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
    made = [
        c for name, about in baseline.columns.items() if about.watched for c in _checks(name, about, figures)
    ]
    alpha = limits.alpha / max(len(made), 1)
    return [check.verdict(alpha, limits) for check in made]


@dataclass(frozen=True, slots=True)
class _Shares:
    """Is a share another one than before? Bad rows and rows, now and before."""

    column: str
    role: Role
    check: Check
    now: tuple[int, int]
    before: tuple[int, int]
    categories: tuple[str, ...] = ()

    def verdict(self, alpha: float, limits: Limits) -> Verdict:
        rows, share, before = self.now[1], self.now[0] / self.now[1], self.before[0] / self.before[1]
        apart, level = abs(share - before), Level.FINE
        if apart >= limits.share_alert and two_sided_p(*self.now, *self.before) < alpha:
            level = Level.PAGE if apart >= limits.share_page else Level.ALERT
        named = self.categories if level is not Level.FINE else ()
        return Verdict(
            self.column, self.role, self.check, level, share, before, limits.share_alert, rows, named
        )


@dataclass(frozen=True, slots=True)
class _Histograms:
    """Is a distribution another one than before?"""

    column: str
    role: Role
    before: Sequence[int]
    now: Sequence[int]

    def verdict(self, alpha: float, limits: Limits) -> Verdict:
        value, rows = stability(self.before, self.now), sum(self.now)
        buckets = sum(1 for a, b in zip(self.before, self.now, strict=True) if a or b)
        limit = max(limits.psi_alert, noise_floor(sum(self.before), rows, buckets, alpha))
        level = Level.FINE
        if value > limit:
            level = Level.PAGE if value > limits.psi_page else Level.ALERT
        return Verdict(self.column, self.role, Check.DISTRIBUTION, level, value, 0.0, limit, rows)


def _checks(
    name: str, about: NumberBaseline | CategoryBaseline, figures: Figures
) -> Iterator[_Shares | _Histograms]:
    """The checks that a column has rows for, now and before."""
    found = figures.get(name)
    if found is None or not found.rows or not about.rows:
        return
    role, values = about.role, found.values
    yield _Shares(name, role, Check.NULLS, (found.nulls, found.rows), (about.nulls, about.rows))
    if isinstance(about, NumberBaseline):
        assert isinstance(found, NumberFigures), "as the baseline's column is counted"
        bad, before, values_before = found.non_finite, about.non_finite, sum(about.counts)
        yield _Shares(name, role, Check.NON_FINITE, (bad, found.rows), (before, about.rows))
        if values and values_before:
            yield _Shares(name, role, Check.OUT_OF_RANGE, (found.out_of_range, values), (0, values_before))
            yield _Histograms(name, role, about.counts, found.bins)
        return
    assert isinstance(found, CategoryFigures), "as the baseline's column is counted"
    values_before = about.rows - about.nulls
    if values and values_before:
        named = tuple(repr(text[:_SHOWN]) for text, _ in found.frequent[:_NAMED])
        yield _Shares(name, role, Check.UNSEEN, (found.unseen, values), (about.unseen, values_before), named)
        counts = list(about.categories.values())
        common = [i for i, count in enumerate(counts) if count >= _RARE * values_before]
        now = _gathered(found.counts, common, values)
        yield _Histograms(name, role, _gathered(counts, common, values_before), now)


def _gathered(counts: Sequence[int], common: Sequence[int], values: int) -> list[int]:
    """Rows of each common category, and of all others together."""
    kept = [counts[i] for i in common]
    return [*kept, values - sum(kept)]
