"""Intervals, the paired test and the quantile sketch, against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]  # scipy has no stubs

from headrace.comparison import QuantileSketch, mcnemar, wilson

counts = st.integers(0, 400)


@given(counts, counts)
def test_wilson_is_the_interval_of_a_reference(yes: int, no: int) -> None:
    low, high = wilson(yes, yes + no)
    if yes + no == 0:
        assert (low, high) == (0.0, 1.0)
        return
    wanted = binomtest(yes, yes + no).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert 0 <= low <= yes / (yes + no) <= high <= 1


@given(counts, counts)
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    wanted = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(wanted, abs=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_many_discordant_pairs_are_nearly_exact_and_do_not_overflow() -> None:
    assert mcnemar(1050, 960) == pytest.approx(binomtest(1050, 2010, 0.5).pvalue, abs=1e-3)
    assert mcnemar(10**9, 0) == 0.0
    assert mcnemar(10**9, 10**9) == pytest.approx(1.0, abs=1e-4)


values = st.lists(st.floats(0, 1e8, allow_subnormal=False), min_size=1, max_size=300)


@given(values, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_one_percent(given_values: list[float], q: float) -> None:
    sketch = QuantileSketch()
    sketch.add(np.array(given_values))
    ordered = sorted(given_values)
    wanted = ordered[math.floor(q * (len(ordered) - 1))]
    assert sketch.quantile(q) == pytest.approx(wanted, rel=0.0101, abs=1e-9)
    assert (sketch.count, sketch.max) == (len(given_values), ordered[-1])
    assert sketch.mean == pytest.approx(sum(ordered) / len(ordered))


@given(values, values)
def test_sketches_of_two_processes_add_up(one: list[float], other: list[float]) -> None:
    first, second, both = QuantileSketch(), QuantileSketch(), QuantileSketch()
    first.add(np.array(one))
    second.add(np.array(other))
    both.add(np.array(one + other))
    first.merge(second)
    assert (first.buckets, first.zeros, first.max) == (both.buckets, both.zeros, both.max)
    assert first.sum == pytest.approx(both.sum)


def test_a_sketch_is_bounded_and_takes_anything() -> None:
    sketch = QuantileSketch()
    sketch.add(10.0 ** np.linspace(-300, 300, 100_000))
    sketch.add(np.array([np.inf, np.nan, 0.0]), times=2)
    assert len(sketch.buckets) <= 2074
    assert (sketch.infinite, sketch.count) == (4, 100_006)
    assert sketch.quantile(1.0) == math.inf
    assert math.isnan(QuantileSketch().quantile(0.5))
    assert math.isnan(QuantileSketch().mean)
