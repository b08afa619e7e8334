"""Ticks as messages, there and back; messages that are no ticks; the buckets, and what is read off the counts."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.ticks import (
    LATENCY_BUCKETS,
    LATENCY_EDGES_S,
    ArmFigures,
    ArmName,
    AssignedFigures,
    Exposure,
    Tick,
    added,
    latency_bucket,
    quantile,
    slower_than,
    threshold,
)
from headrace.ticks.messages import UnreadableError, read, read_exposures, write, write_exposures

COUNT = st.integers(0, 1 << 50)
KEY = st.integers(1, (1 << 64) - 1)
NAME = st.sampled_from(["a", "b", "flights"])
ARM = st.builds(ArmName, NAME, st.integers(0, 9), NAME, st.booleans())


# Few counts that are not 0, as they come.
TIMES = st.dictionaries(st.integers(0, LATENCY_BUCKETS - 1), COUNT, max_size=3).map(
    lambda found: tuple(found.get(i, 0) for i in range(LATENCY_BUCKETS))
)
ASSIGNED = st.builds(
    AssignedFigures, COUNT, COUNT, COUNT, COUNT, COUNT, st.just(()) | TIMES.filter(any), st.booleans()
)
FIGURES = st.builds(ArmFigures, COUNT, COUNT, TIMES, ASSIGNED)
LABELS = st.dictionaries(NAME, st.floats(allow_nan=False), max_size=2)


@st.composite
def exposures(draw: st.DrawFn) -> list[Exposure]:
    """As a router has them."""
    found = []
    for arm in draw(st.lists(ARM.filter(lambda arm: not arm.by_rule), max_size=3, unique=True)):
        sticky = draw(st.booleans())
        for _ in range(draw(st.integers(1, 3))):
            key = draw(st.none() | KEY) if sticky else None
            found.append(Exposure(arm, draw(NAME), draw(NAME), draw(st.integers(0, 9)), key, draw(LABELS)))
    return found


TICKS = st.builds(
    Tick,
    st.integers(1, (1 << 64) - 1),
    st.integers(1, 1 << 40),
    COUNT,
    st.dictionaries(ARM, FIGURES, max_size=3),
)


@given(TICKS)
def test_a_tick_comes_back_as_it_was(tick: Tick) -> None:
    assert read(tick.epoch, pb.TickReport.FromString(write(tick).SerializeToString())) == tick


@given(exposures())
def test_exposures_come_back_as_they_were(sent: list[Exposure]) -> None:
    assert read_exposures(write_exposures(sent)) == sent


@given(FIGURES, FIGURES)
def test_sums_hold_everything_of_both(one: ArmFigures, other: ArmFigures) -> None:
    total = added(one, other)
    assert (total.rows, total.errors) == (one.rows + other.rows, one.errors + other.errors)
    assert total.assigned == one.assigned.plus(other.assigned)
    assert sum(total.assigned.answers) == sum(one.assigned.answers) + sum(other.assigned.answers)
    assert total.assigned.fresh_rows == one.assigned.fresh_rows + other.assigned.fresh_rows
    assert sum(total.latency) == sum(one.latency) + sum(other.latency)


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        (0, pb.TickReport(sequence=1)),
        (1, pb.TickReport()),
        (1, pb.TickReport(sequence=1, arms=[pb.ArmCounts(latency_counts=[0] * (LATENCY_BUCKETS + 1))])),
    ],
    ids=["no epoch", "no sequence", "latency"],
)
def test_what_is_no_tick_is_refused(epoch: int, message: pb.TickReport) -> None:
    with pytest.raises(UnreadableError):
        read(epoch, message)


@pytest.mark.parametrize(
    "message",
    [
        pb.Exposures(tenants=["t"], request_ids=["r"]),
        pb.Exposures(tenants=["t"], request_ids=["r"], rows=[0], keys=[1, 2]),
        pb.Exposures(tenants=["t"], request_ids=["r"], rows=[0], labels=[pb.PredictedLabels(name="y")]),
    ],
    ids=["rows", "keys", "labels"],
)
def test_what_are_no_exposures_is_refused(message: pb.Exposures) -> None:
    with pytest.raises(UnreadableError):
        read_exposures([message])


SECONDS = st.floats(0, 1000)


def test_edges_rise_and_hold_the_thresholds_that_people_choose() -> None:
    assert list(LATENCY_EDGES_S) == sorted(set(LATENCY_EDGES_S))
    assert {0.0001, 0.001, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0} <= set(
        LATENCY_EDGES_S
    )
    steps = [b / a for a, b in itertools.pairwise(LATENCY_EDGES_S)]
    assert max(steps) < 1.145


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
