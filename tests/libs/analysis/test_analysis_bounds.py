"""Bounds that hold at every look: coverage computed exactly, path by path."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.analysis import Count, excess_upper_bound, lower_bound, upper_bound, wilson


def chance_ever_excluded(rate: float, alpha: float, rows: int, *, above: bool) -> float:
    """Probability that the bound is ever on the wrong side of the true rate within `rows` rows: dynamic programming over
    (rows, bad), where a path that was excluded once is taken out."""
    alive, gone = np.array([1.0]), 0.0
    for n in range(1, rows + 1):
        alive = np.append(alive * (1 - rate), 0) + np.append(0, alive * rate)
        for x in np.flatnonzero(alive):
            count = Count(n, int(x))
            wrong = upper_bound(count, alpha) < rate if above else lower_bound(count, alpha) > rate
            if wrong:
                gone += alive[x]
                alive[x] = 0.0
    return gone


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize(("rate", "rows"), [(0.05, 120), (0.3, 60), (0.5, 60)])
def test_the_true_rate_is_hardly_ever_excluded(rate: float, rows: int, above: bool) -> None:
    # A bound that hardly excludes anything would never be wrong either.
    assert 0.015 < chance_ever_excluded(rate, 0.1, rows, above=above) <= 0.1


@given(st.integers(1, 10_000), st.data(), st.floats(0.001, 0.2))
def test_bounds_lie_around_the_rate_and_are_what_they_say(
    rows: int, data: st.DataObject, alpha: float
) -> None:
    bad = data.draw(st.integers(0, rows))
    low, high = lower_bound(Count(rows, bad), alpha), upper_bound(Count(rows, bad), alpha)
    assert 0 <= low <= bad / rows <= high <= 1
    assert upper_bound(Count(rows, bad), alpha / 2) >= high
    assert lower_bound(Count(rows, bad), alpha / 2) <= low


def test_no_rows_say_nothing() -> None:
    assert upper_bound(Count(0, 0), 0.05) == 1
    assert lower_bound(Count(0, 0), 0.05) == 0
    assert excess_upper_bound([], 0.05, 5) == 1
    assert excess_upper_bound([(Count(10, 1), Count(0, 0))], 0.05, 5) == 1
    assert wilson(0, 0) == (0, 1)


def test_the_excess_does_not_fall_by_a_bad_hour_that_only_the_live_arm_met() -> None:
    """In the bad hour nearly all rows are live; pooled, the live arm would look worse than the canary."""
    bad_hour, calm = (Count(100_000, 5000), Count(100, 5)), (Count(5000, 5), Count(5000, 35))
    pooled = excess_upper_bound([(Count(105_000, 5005), Count(5100, 40))], 0.05, 5)
    assert pooled < 0
    assert excess_upper_bound([bad_hour, calm], 0.05, 5) > 0.006


def test_the_excess_of_equal_arms_falls_below_the_margin() -> None:
    # A uniform mixture over all rates would take 2,127 rows.
    assert upper_bound(Count(1020, 0), 0.05) <= 0.005
    assert excess_upper_bound([(Count(20_000, 20), Count(5000, 5))], 0.025, 12) < 0.005
    assert excess_upper_bound([(Count(20_000, 0), Count(1500, 0))], 0.025, 12) < 0.005
    assert excess_upper_bound([(Count(20_000, 20), Count(5000, 50))], 0.025, 12) > 0.005


def test_wilson_is_that_of_the_textbook() -> None:
    low, high = wilson(15, 50)
    assert (low, high) == (pytest.approx(0.19104, abs=1e-5), pytest.approx(0.43750, abs=1e-5))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)


@pytest.mark.slow
def test_the_excess_is_rarely_understated_at_any_look() -> None:
    """Growing weight and rates that swing together: in 1,000 runs the bound is below the true excess in at most α."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(1000):
        strata = {w: [0, 0, 0, 0] for w in (0.05, 0.25, 0.5)}
        for tick in range(300):
            weight = (0.05, 0.25, 0.5)[tick // 100]
            rate = 0.01 * (1 + 0.5 * math.sin(tick / 7))
            canary = int(rng.binomial(300, weight))
            sums = strata[weight]
            sums[0] += 300 - canary
            sums[1] += int(rng.binomial(300 - canary, rate))
            sums[2] += canary
            sums[3] += int(rng.binomial(canary, rate + 0.01))
            if tick % 10 == 9:
                pairs = [(Count(*s[:2]), Count(*s[2:])) for s in strata.values()]
                if excess_upper_bound(pairs, 0.05, 3) < 0.01:
                    wrong += 1
                    break
    assert wrong <= 50
