"""Cumulative counts: what is late or can't be true adds nothing."""

import pytest

from services.monitoring.rollouts.counts import ArmCounts, Streams, Tick


def test_all_is_counted_once_and_an_arm_that_is_missing_did_not_change() -> None:
    streams = Streams()
    counts = ArmCounts(9, 2, (8, 1), 3, 1, 4)
    for once in ({"live": counts}, {}):
        assert streams.take(Tick("other", 8, {"live": counts})) == once
    more = ArmCounts(10, 2, (8, 1, 1), 3, 1, 5)
    assert streams.take(Tick("other", 8, {"live": more})) == {"live": ArmCounts(1, 0, (0, 0, 1), assigned=1)}
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
