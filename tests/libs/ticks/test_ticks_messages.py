"""Ticks as messages, there and back; and messages that are no ticks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.ticks import (
    LATENCY_BUCKETS,
    OUTPUT_BUCKETS,
    ArmFigures,
    ArmName,
    AssignedFigures,
    Exposure,
    OutputFigures,
    Tick,
    added,
)
from headrace.ticks.messages import UnreadableError, read, write

COUNT = st.integers(0, 1 << 50)
KEY = st.integers(1, (1 << 64) - 1)
NAME = st.sampled_from(["a", "b", "flights"])
ARM = st.builds(ArmName, NAME, st.integers(0, 9), NAME, st.booleans())


def histogram(buckets: int) -> st.SearchStrategy[tuple[int, ...]]:
    # Few counts that are not 0, as they come.
    return st.dictionaries(st.integers(0, buckets - 1), COUNT, max_size=3).map(
        lambda found: tuple(found.get(i, 0) for i in range(buckets))
    )


OUTPUTS = st.one_of(
    st.builds(OutputFigures, histogram(OUTPUT_BUCKETS), COUNT),
    st.builds(OutputFigures, histogram(2), COUNT, st.just(True)),
)
ASSIGNED = st.builds(AssignedFigures, COUNT, COUNT, COUNT, COUNT, st.booleans())
FIGURES = st.builds(
    ArmFigures,
    COUNT,
    COUNT,
    histogram(LATENCY_BUCKETS),
    st.dictionaries(NAME, OUTPUTS, max_size=2),
    ASSIGNED,
)
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
    exposures(),
    COUNT,
)


@given(TICKS)
def test_a_tick_comes_back_as_it_was(tick: Tick) -> None:
    found = read(pb.ReportTicksRequest.FromString(write(tick).SerializeToString()))
    assert found.arms == tick.arms
    assert list(found.exposures) == list(tick.exposures)
    assert (found.epoch, found.sequence, found.base, found.lost_exposures) == (
        tick.epoch,
        tick.sequence,
        tick.base,
        tick.lost_exposures,
    )


@given(FIGURES, FIGURES)
def test_sums_hold_everything_of_both(one: ArmFigures, other: ArmFigures) -> None:
    total = added(one, other)
    assert (total.rows, total.errors) == (one.rows + other.rows, one.errors + other.errors)
    assert total.assigned == one.assigned.plus(other.assigned)
    assert total.assigned.fresh_rows == one.assigned.fresh_rows + other.assigned.fresh_rows
    assert sum(total.latency) == sum(one.latency) + sum(other.latency)
    for name in one.outputs.keys() & other.outputs.keys():
        a, b, both = one.outputs[name], other.outputs[name], total.outputs[name]
        if a.boolean == b.boolean:
            assert sum(both.counts) + both.nulls == sum(a.counts) + a.nulls + sum(b.counts) + b.nulls


def exposed(**fields: object) -> pb.ReportTicksRequest:
    return pb.ReportTicksRequest(epoch=1, sequence=1, exposures=[pb.Exposures(**fields)])  # type: ignore[arg-type]  # of a test


@pytest.mark.parametrize(
    "message",
    [
        pb.ReportTicksRequest(sequence=1),
        pb.ReportTicksRequest(epoch=1),
        pb.ReportTicksRequest(
            epoch=1, sequence=1, arms=[pb.ArmCounts(latency_counts=[0] * (LATENCY_BUCKETS + 1))]
        ),
        pb.ReportTicksRequest(
            epoch=1,
            sequence=1,
            arms=[pb.ArmCounts(outputs=[pb.OutputCounts(name="y", counts=[1, 2, 3], boolean=True)])],
        ),
        exposed(tenants=["t"], request_ids=["r"]),
        exposed(tenants=["t"], request_ids=["r"], rows=[0], keys=[1, 2]),
        exposed(tenants=["t"], request_ids=["r"], rows=[0], labels=[pb.PredictedLabels(name="y")]),
    ],
    ids=["no epoch", "no sequence", "latency", "output", "rows", "keys", "labels"],
)
def test_what_is_no_tick_is_refused(message: pb.ReportTicksRequest) -> None:
    with pytest.raises(UnreadableError):
        read(message)
