"""Pace and latency thresholds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.analysis import (
    edge_bucket,
    highest_weight,
    rows_above,
    threshold_bucket,
)


def test_the_pace_is_what_the_budget_allows() -> None:
    assert highest_weight(allowed=90, excess=0.01, rows=9000 * 4) == pytest.approx(0.25)
    assert highest_weight(allowed=90, excess=0.001, rows=9000) == 1
    assert highest_weight(allowed=90, excess=-0.1, rows=9000) == 1
    assert highest_weight(allowed=0, excess=0.0, rows=9000) == 0
    assert highest_weight(allowed=-5, excess=0.0, rows=9000) == 0


@given(st.floats(0.1, 1e6), st.floats(0, 1), st.floats(0, 1e6))
def test_a_stage_costs_no_more_than_allowed(allowed: float, excess: float, rows: float) -> None:
    assert highest_weight(allowed, excess, rows) * excess * rows <= allowed * (1 + 1e-9)


def test_a_threshold_is_an_edge_with_at_most_the_rest_above() -> None:
    histogram = [0, 50, 45, 4, 1, 0]
    assert threshold_bucket(histogram, 0.95) == 2
    assert rows_above(histogram, 2) == 5
    assert threshold_bucket([0, 0], 0.95) is None


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_no_more_than_the_rest_is_slower_than_the_quantile(histogram: list[int], quantile: float) -> None:
    bucket = threshold_bucket(histogram, quantile)
    if bucket is not None:
        assert rows_above(histogram, bucket) <= (1 - quantile) * sum(histogram) + 1e-6
        assert rows_above(histogram, bucket - 1) >= (1 - quantile) * sum(histogram) - 1e-6


def test_rows_above_an_objective_are_slower_than_it_for_sure() -> None:
    edges = (0.1, 0.2, 0.5)
    assert [edge_bucket(edges, s) for s in (0.05, 0.1, 0.15, 0.5, 0.6)] == [0, 0, 1, 2, 3]
    assert rows_above([1, 2, 4, 8], edge_bucket(edges, 0.15)) == 12
    assert rows_above([1, 2, 4, 8], edge_bucket(edges, 9)) == 0
