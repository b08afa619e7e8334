"""The choice of a cascade's threshold: its curve, that the budget holds as often as it says, and its Clopper-Pearson bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.replay import cascade_curve as curves
from headrace.cli.replay.cascade_curve import Labelled

ALPHA = 0.05
DECISION = 0.3


def drawn(rng: np.random.Generator, count: int, hard: float = 0.3, sure: float = 0.02) -> Labelled:
    """Rows whose light decision is wrong with probability `hard` at margin 0, falling to `sure` at 0.5; the heavy one's: 0.1."""
    margins = rng.uniform(0, 0.5, count)
    light = rng.random(count) < hard + (sure - hard) * margins / 0.5
    heavy = rng.random(count) < 0.1
    # A row has one label, so a wrong decision about it costs the same, whoever makes it: on the average 0.5.
    cost = np.where(rng.random(count) < 0.5, *curves.cost_of(DECISION))
    light_cost, heavy_cost = (np.where(wrong, cost, 0.0) for wrong in (light, heavy))
    return Labelled(margins, light_cost, heavy_cost, np.zeros(count, bool), curves.cost_of(DECISION))


def true_loss(threshold: float, hard: float = 0.3, sure: float = 0.02) -> float:
    """The expected cost above the heavy model's: the light model answers margins from `threshold` to 0.5."""
    margins = np.linspace(threshold, 0.5, 2001)
    wrong = hard + (sure - hard) * margins / 0.5
    return float((0.5 * (wrong - 0.1)).mean() * (0.5 - threshold) / 0.5)


def broken_budgets(runs: int, count: int, budget: float) -> tuple[int, int]:
    """In how many runs the chosen threshold costs more than the budget, and in how many there is one."""
    broken = found = 0
    for seed in range(runs):
        rows = drawn(np.random.default_rng(seed), count)
        points = curves.curve(rows, curves.grid(rows.margins, DECISION, 50), ALPHA)
        best = curves.chosen(points, budget)
        if best is not None:
            found += 1
            broken += true_loss(best.threshold) > budget
    return broken, found


def test_the_budget_holds_as_often_as_it_says() -> None:
    broken, found = broken_budgets(60, 2000, 0.01)
    assert found >= 55
    # Ten or more of sixty would happen once in 2,000 times if it were broken with a probability of 5 %.
    assert broken < 10


def test_the_curve_runs_from_the_light_to_the_heavy_model() -> None:
    rows = drawn(np.random.default_rng(2), 5000)
    points = curves.curve(rows, [0.0, 0.25, 0.51], ALPHA)
    assert [round(p.heavy_share, 1) for p in points] == [0.0, 0.5, 1.0]
    assert points[0].loss == pytest.approx(rows.light.mean())
    assert points[-1].loss == pytest.approx(rows.heavy.mean())
    assert points[-1].lost == 0
    assert 0 < points[-1].lost_bound < 0.002
    for point in points:
        low, high = point.lost_interval
        assert low <= point.lost <= high
        assert point.lost <= point.lost_bound


def test_the_test_ends_at_the_first_threshold_that_costs_too_much() -> None:
    rows = drawn(np.random.default_rng(3), 3000)
    points = curves.curve(rows, [0.0, 0.1, 0.2, 0.3, 0.51], ALPHA)
    bounds = {p.threshold: p.lost_bound for p in points}
    best = curves.chosen(points, bounds[0.2])
    assert best is not None
    assert best.threshold == min(t for t in bounds if all(bounds[u] <= bounds[0.2] for u in bounds if u >= t))
    assert curves.chosen(points, 1e-6) is None


def test_valuable_rows_and_margins_that_are_no_number_go_to_the_heavy_model() -> None:
    margins, light, always = np.array([0.4, 0.4, -1.0]), np.full(3, 0.5), np.array([False, True, False])
    rows = Labelled(margins, light, np.zeros(3), always, (0.5, 0.5))
    [point] = curves.curve(rows, [0.0], ALPHA)
    assert point.heavy_share == pytest.approx(2 / 3)
    assert point.lost == pytest.approx(0.5 / 3)


def test_decisions_and_their_costs() -> None:
    scores = np.array([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], np.float64)
    decided = curves.decisions(scores, 0.3, 1)
    assert decided.tolist() == [0, 1, 1]
    assert curves.costs(decided, np.array([1, 1, 0]), 0.3).tolist() == [0.7, 0.0, 0.3]
    assert curves.decisions(scores, None, 0).tolist() == [0, 0, 1]
    assert curves.costs(np.array([2, 0]), np.array([1, 0]), None).tolist() == [1.0, 0.0]
    # A decision that is no probability has no costs of its own.
    assert curves.cost_of(3.5) == (1.0, 1.0)


def test_how_many_rows_a_budget_needs() -> None:
    rows = drawn(np.random.default_rng(4), 100)
    needed = curves.rows_needed(0.01, rows, ALPHA)
    same = Labelled(
        np.full(needed, 0.5), np.zeros(needed), np.zeros(needed), np.zeros(needed, bool), rows.costs
    )
    [point] = curves.curve(same, [0.0], ALPHA)
    assert point.lost_bound <= 0.01
    assert point.lost_bound == pytest.approx(0.01, rel=0.02)


@given(st.integers(0, 3000), st.integers(1, 3000), st.sampled_from([0.2, 0.05, 0.0125, 0.001]))
def test_a_share_is_beyond_its_bounds_as_rarely_as_they_say(count: int, total: int, alpha: float) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    count = min(count, total)
    upper = curves.share_bound(count, total, alpha, upper=True)
    lower = curves.share_bound(count, total, alpha, upper=False)
    assert lower <= count / total <= upper
    assert count == total or binom.cdf(count, total, upper) == pytest.approx(alpha, rel=1e-6)
    assert count == 0 or binom.sf(count - 1, total, lower) == pytest.approx(alpha, rel=1e-6)
    assert curves.share_bound(0, 100, 0.05, upper=True) == pytest.approx(1 - 0.05 ** (1 / 100))
