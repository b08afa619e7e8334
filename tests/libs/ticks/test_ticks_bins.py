"""The buckets of ticks: which value belongs to which, and what is read off the counts."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ticks import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    OUTPUT_BUCKETS,
    OUTPUT_EDGES,
    latency_bucket,
    output_counts,
    quantile,
    slower_than,
    threshold,
)

SECONDS = st.floats(0, 1000)


def test_edges_rise_and_hold_the_thresholds_that_people_choose() -> None:
    for edges in (LATENCY_EDGES_S, OUTPUT_EDGES):
        assert list(edges) == sorted(set(edges))
    assert {0.0001, 0.001, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0} <= set(
        LATENCY_EDGES_S
    )
    steps = [b / a for a, b in itertools.pairwise(LATENCY_EDGES_S)]
    assert max(steps) < 1.145
    assert OUTPUT_EDGES[0] == -1e9
    assert OUTPUT_EDGES[-1] == 1e9


@given(SECONDS)
def test_a_time_is_in_the_first_bucket_whose_edge_is_not_below_it(seconds: float) -> None:
    bucket = latency_bucket(seconds)
    assert bucket == LATENCY_BUCKETS - 1 or seconds <= LATENCY_EDGES_S[bucket]
    assert bucket == 0 or seconds > LATENCY_EDGES_S[bucket - 1]


@given(st.lists(SECONDS, max_size=50), SECONDS)
def test_slower_rows_are_those_above_the_threshold(times: list[float], limit: float) -> None:
    counts = [0] * LATENCY_BUCKETS
    for seconds in times:
        counts[latency_bucket(seconds)] += 1
    edge = threshold(limit)
    assert edge >= limit
    assert slower_than(counts, limit) == sum(t > edge for t in times)
    assert slower_than(counts, limit) == slower_than(counts, edge)


@given(st.lists(SECONDS, min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_the_edge_of_its_bucket(times: list[float], q: float) -> None:
    counts = [0] * LATENCY_BUCKETS
    for seconds in times:
        counts[latency_bucket(seconds)] += 1
    exact = sorted(times)[math.ceil(q * len(times) - 1e-9) - 1]
    assert quantile(counts, q) == threshold(exact)


def test_a_quantile_of_nothing() -> None:
    assert quantile([0] * LATENCY_BUCKETS, 0.5) == 0.0


@given(
    st.one_of(
        st.lists(st.floats(width=32), max_size=100),
        st.lists(st.floats(-1, 1, width=32), max_size=100),
        st.lists(st.integers(-100, 100).map(lambda i: i / 100), max_size=100),
    )
)
def test_outputs_are_counted_as_one_by_one(values: list[float]) -> None:
    expected = [0] * OUTPUT_BUCKETS
    for value in values:
        place = OUTPUT_BUCKETS - 1 if math.isnan(value) else bisect_left(OUTPUT_EDGES, value)
        expected[place] += 1
    assert output_counts(np.array(values, np.float64)).tolist() == expected


def test_next_to_every_edge() -> None:
    for edge in OUTPUT_EDGES[46:-46]:
        near = np.nextafter(edge, [-2.0, edge, 2.0])
        places = output_counts(near).nonzero()[0]
        assert places.tolist() == sorted({bisect_left(OUTPUT_EDGES, x) for x in near})


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.int64, np.float16, np.float64])
def test_every_type_of_number_is_counted(dtype: type) -> None:
    assert output_counts(np.array([0, 1, 100], dtype)).sum() == 3
