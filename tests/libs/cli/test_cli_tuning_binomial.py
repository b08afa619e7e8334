"""Clopper-Pearson bounds, beside SciPy's and by their own promise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.tuning.binomial import incomplete_beta, lower_bound, upper_bound

scipy_stats = pytest.importorskip("scipy.stats")


@given(st.integers(0, 3000), st.integers(1, 3000), st.sampled_from([0.2, 0.05, 0.0125, 0.001]))
def test_bounds_are_scipys(count: int, total: int, alpha: float) -> None:
    count = min(count, total)
    beta = scipy_stats.beta
    upper = 1.0 if count == total else float(beta.ppf(1 - alpha, count + 1, total - count))
    lower = 0.0 if count == 0 else float(beta.ppf(alpha, count, total - count + 1))
    assert upper_bound(count, total, alpha) == pytest.approx(upper, rel=1e-7, abs=1e-12)
    assert lower_bound(count, total, alpha) == pytest.approx(lower, rel=1e-7, abs=1e-12)
    assert lower_bound(count, total, alpha) <= count / total <= upper_bound(count, total, alpha)


@given(st.floats(0.5, 5000), st.floats(0.5, 5000), st.floats(0, 1))
def test_the_incomplete_beta_function_is_scipys(a: float, b: float, x: float) -> None:
    special = pytest.importorskip("scipy.special")
    assert incomplete_beta(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3])
def test_the_bound_is_above_the_truth_as_often_as_it_says(p: float) -> None:
    """Exactly: the sum of the probabilities of all counts whose bound is below p is at most alpha."""
    total, alpha = 500, 0.05
    missed = sum(
        math.comb(total, k) * p**k * (1 - p) ** (total - k)
        for k in range(total + 1)
        if upper_bound(k, total, alpha) < p
    )
    assert missed <= alpha
    missed_below = sum(
        math.comb(total, k) * p**k * (1 - p) ** (total - k)
        for k in range(total + 1)
        if lower_bound(k, total, alpha) > p
    )
    assert missed_below <= alpha


def test_no_rows_bad_counts() -> None:
    assert upper_bound(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    for count, total, alpha in ((1, 0, 0.05), (-1, 5, 0.05), (6, 5, 0.05), (1, 5, 0.0), (1, 5, 1.0)):
        with pytest.raises(ValueError, match="no proportion"):
            upper_bound(count, total, alpha)
