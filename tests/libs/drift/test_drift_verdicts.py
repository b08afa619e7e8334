"""What is told of windows that changed, and that nothing is of those that did not."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headrace.analysis import Count
from headrace.drift import (
    Baseline,
    Check,
    Choices,
    ConceptDrift,
    Level,
    Limits,
    Verdict,
    baseline_of,
    figures,
    judge,
)
from headrace.drift.proportions import two_sided_p
from headrace.drift.stability import noise_floor, stability
from tests.libs.drift.training import draw

LIMITS = Limits()


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """Of 24 columns."""
    made = baseline_of(draw(40_000, np.random.default_rng(2)), Choices(outputs=["probability"]))
    assert len(made.columns) == 24
    return made


def alarms(baseline: Baseline, data: dict[str, Any]) -> list[Verdict]:
    found = figures(baseline.counted, data, len(data["carrier"]))
    return [v for v in judge(baseline, found, LIMITS) if v.level is not Level.FINE]


@pytest.mark.parametrize("rows", [200, 1000])
def test_the_same_distribution_raises_no_alarm(baseline: Baseline, rows: int) -> None:
    rng = np.random.default_rng(rows)
    assert [alarms(baseline, draw(rows, rng)) for _ in range(12)] == [[]] * 12


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "most"), [(200, 10), (1000, 0), (5000, 0)])
def test_a_thousand_windows_of_the_same_distribution(baseline: Baseline, rows: int, most: int) -> None:
    rng = np.random.default_rng(rows + 1)
    assert sum(bool(alarms(baseline, draw(rows, rng))) for _ in range(1000)) <= most


def test_columns_that_are_not_watched_and_those_without_rows_are_not_judged() -> None:
    made = baseline_of({"x": np.arange(100.0), "hour": np.arange(100)}, Choices(unwatched=["hour"]))
    seen = figures(made.counted, {"hour": np.full(500, 3)}, 500)
    assert judge(made, seen, LIMITS) == []


def test_values_beyond_those_of_the_training_are_told() -> None:
    made = baseline_of({"x": np.random.default_rng(1).random(10_000)}, Choices())
    seen = figures(
        made.counted,
        {"x": np.r_[np.random.default_rng(2).random(1980), np.full(20, 7.0), np.full(30, np.nan)]},
        2030,
    )
    found = {v.check: v.level for v in judge(made, seen, LIMITS)}
    assert (found[Check.OUT_OF_RANGE], found[Check.NON_FINITE]) == (Level.ALERT, Level.ALERT)
    assert (found[Check.NULLS], found[Check.DISTRIBUTION]) == (Level.FINE, Level.FINE)


def test_a_gross_change_pages() -> None:
    made = baseline_of({"x": np.random.default_rng(1).normal(size=5000)}, Choices())
    seen = figures(made.counted, {"x": [None] * 500 + list(np.random.default_rng(1).normal(2, 1, 500))}, 1000)
    found = {v.check: v.level for v in judge(made, seen, LIMITS)}
    assert (found[Check.NULLS], found[Check.DISTRIBUTION]) == (Level.PAGE, Level.PAGE)


counts = st.tuples(st.integers(0, 300), st.integers(1, 300)).map(lambda t: (min(t), max(t)))


@given(counts, counts)
@settings(max_examples=60)
def test_the_test_of_shares_is_the_exact_one(now: tuple[int, int], before: tuple[int, int]) -> None:
    (bad, rows), (bad_before, rows_before) = now, before
    law = stats.hypergeom(rows + rows_before, bad + bad_before, rows)
    expected = min(1.0, 2 * min(law.sf(bad - 1), law.cdf(bad)))
    # By the share's side, the smaller tail is taken; in the middle both are near a half.
    assert two_sided_p(bad, rows, bad_before, rows_before) == pytest.approx(
        expected, rel=1e-6, abs=1e-12
    ) or (expected > 0.9)


def test_the_noise_floor_is_that_of_chi_square() -> None:
    for freedom, most in ((1, 1.2), (5, 1.07), (19, 1.02), (60, 1.005)):
        for alpha in (1e-3, 1e-7):
            # Never too low by more than its rounding: that would be the unsafe side.
            exact = stats.chi2.isf(alpha, freedom)
            assert 0.997 < noise_floor(1000, 1000, freedom + 1, alpha) * 500 / exact < most, (freedom, alpha)
    assert math.isinf(noise_floor(0, 10, 5, 0.01))


def test_one_empty_bucket_does_not_decide() -> None:
    before = [2000] * 20
    assert stability(before, [0, *[10] * 18, 20]) < 0.2
    assert stability(before, [10] * 20) < 0.001
    assert stability(before, [0] * 20) == 0
    assert stability([10**6, 0], [10**6, 90]) == pytest.approx(0, abs=1e-6), "below 0.01 %"
    # (0.4−0.5)·ln(0.8) + (0.6−0.5)·ln(1.2): the textbook's, where half a row is next to nothing.
    assert stability([500_000, 500_000], [400_000, 600_000]) == pytest.approx(0.0405465, abs=1e-5)


def followed(rates: list[float], seed: int, batch: int = 100) -> list[bool]:
    rng, drift, rows, bad, said = np.random.default_rng(seed), ConceptDrift(), 0, 0, []
    for rate in rates:
        rows, bad = rows + batch, bad + int(rng.binomial(batch, rate))
        said.append(drift.observe(Count(rows, bad)).drifted)
    return said


def test_a_version_that_errs_more_is_told_within_a_thousand_predictions() -> None:
    for seed in range(5):
        assert not any(followed([0.1] * 60, seed))
        said = followed([0.1] * 60 + [0.25] * 10, seed)
        assert not any(said[:60])
        assert said[-1]


def test_one_that_errs_less_is_no_alarm_and_counts_that_fall_begin_anew() -> None:
    assert not any(followed([0.2] * 20 + [0.05] * 30, 1))
    drift = ConceptDrift()
    drift.observe(Count(5000, 100))
    assert drift.observe(Count(10, 10)).reference == 1.0


@pytest.mark.slow
def test_a_hundred_versions_without_a_change_raise_at_most_one_alarm() -> None:
    # α is 1/1000 for each, however often it is looked at.
    assert sum(any(followed([0.1] * 60, seed)) for seed in range(100)) <= 1


def test_a_restored_test_goes_on() -> None:
    rng, one, two = np.random.default_rng(3), ConceptDrift(), ConceptDrift()
    rows = bad = 0
    for rate in [0.1] * 30 + [0.3] * 10:
        rows, bad = rows + 100, bad + int(rng.binomial(100, rate))
        expected = one.observe(Count(rows, bad))
        assert two.observe(Count(rows, bad)) == expected
        again = ConceptDrift()
        again.restore(two.to_json())
        two = again
