"""Windows keep every row, at every length, and stay bounded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.drift.windows import SLICE_S, Windows
from tests.services.monitoring.drift.drift_windows import LAYOUT, SPANS, STEPS, filled


@given(STEPS)
@settings(max_examples=25)
def test_no_row_is_counted_twice_or_lost(found: list[tuple[int, int]]) -> None:
    windows, now = filled(found)
    total = sum(rows for _, rows in found)
    # Far in the future, another batch ends them all.
    for later in (10 * 86_400, 20 * 86_400):
        windows.at(now + later).update({"x": [1.0]}, 1)
    windows.end(now + 30 * 86_400)
    days = sum(w.sketch.rows for w in windows.ended("day"))
    if len(windows.ended("day")) < 7:
        assert days == total + 1, "the last batch's day has not ended"
    for span in SPANS:
        assert sum(w.sketch.rows for w in windows.ended(span)) <= total + 2
        assert all(w.start < w.end for w in windows.ended(span))


@given(STEPS, st.integers(1, 60))
@settings(max_examples=25)
def test_the_newest_rows_are_the_newest(found: list[tuple[int, int]], wanted: int) -> None:
    windows, _ = filled(found)
    total = sum(rows for _, rows in found)
    newest = windows.newest(wanted).rows
    assert newest <= total
    # What lies in the open minute, hour or day is reached through shorter windows, of which a limited number is kept.
    if len(found) <= 12:
        assert newest >= min(wanted, total)


def test_all_is_bounded() -> None:
    windows, now = Windows(LAYOUT), 0.0
    for wait in [SLICE_S] * 20 + [60] * 70 + [3600] * 200:
        now += wait
        windows.at(now).update({"x": [1.0]}, 1)
    assert [len(windows.ended(span)) for span in SPANS] == [12, 60, 24, 7]


def test_a_late_batch_counts_in_the_open_slice() -> None:
    windows = Windows(LAYOUT)
    windows.at(1000.0).update({"x": [1.0]}, 1)
    windows.at(900.0).update({"x": [1.0]}, 1)
    assert windows.newest(10).rows == 2
