"""Cumulative counts: late, lost and repeated ticks add nothing wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.rollouts.counts import ArmCounts, Streams, Tick
from tests.services.monitoring.rollout_simulation import added

steps = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 3), st.lists(st.integers(0, 5), max_size=4)),
    min_size=1,
    max_size=8,
)


def cumulative(increments: list[tuple[int, int, list[int]]]) -> list[ArmCounts]:
    found, total = [], ArmCounts()
    for rows, errors, latency in increments:
        total = added(total, ArmCounts(rows + errors, errors, tuple(latency), rows, 0, 1))
        found.append(total)
    return found


@given(steps, steps, st.data())
def test_whatever_is_lost_late_or_repeated_all_is_counted_once(
    one: list[tuple[int, int, list[int]]], other: list[tuple[int, int, list[int]]], data: st.DataObject
) -> None:
    ticks = [Tick("router-1", 8, {"live": c}) for c in cumulative(one)]
    ticks += [Tick("router-2", 8, {"live": c}) for c in cumulative(other)]
    arrived = data.draw(st.lists(st.sampled_from(ticks), max_size=20))
    # The newest of each source comes at some time.
    arrived += [ticks[len(one) - 1], ticks[-1]]
    streams, total = Streams(), ArmCounts()
    for tick in arrived:
        for more in (streams.take(tick) or {}).values():
            total = added(total, more)
    expected = added(cumulative(one)[-1], cumulative(other)[-1])
    zeros = ArmCounts(latency=(0,) * 8)
    assert added(total, zeros) == added(expected, zeros)


def test_an_arm_that_is_missing_did_not_change() -> None:
    streams = Streams()
    streams.take(Tick("r", 8, {"live": ArmCounts(100, 1)}))
    assert streams.take(Tick("r", 8, {"canary": ArmCounts(3)})) == {"canary": ArmCounts(3)}
    assert streams.take(Tick("r", 8, {"live": ArmCounts(101, 1)})) == {"live": ArmCounts(1)}


@pytest.mark.parametrize(
    "counts",
    [ArmCounts(13, 14), ArmCounts(13, -1), ArmCounts(13, 1, labelled=1, wrong=2), ArmCounts(11, 1)],
)
def test_counts_that_cant_be_true_or_are_older_add_nothing(counts: ArmCounts) -> None:
    streams = Streams()
    streams.take(Tick("r", 8, {"live": ArmCounts(12, 1), "canary": ArmCounts(5)}))
    assert streams.take(Tick("r", 8, {"live": counts, "canary": ArmCounts(6)})) is None
    assert streams.take(Tick("r", 8, {"live": ArmCounts(13, 1)})) == {"live": ArmCounts(1)}


def test_old_releases_are_forgotten() -> None:
    streams = Streams()
    for number in range(5):
        streams.take(Tick("r", number, {"live": ArmCounts(1)}))
    streams.forget_before(3)
    assert {number for _, number, _ in streams.last} == {3, 4}
