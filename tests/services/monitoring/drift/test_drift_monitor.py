"""From batches or prediction events to alarms: each change is named in time, what can't be counted harms nothing; windows
keep every row, at every length, and stay bounded."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.analysis import Count
from headrace.columns import Column
from headrace.drift import Baseline, Choices, baseline_of
from headrace.events import CACHED, CODE, GroupHeader
from services.monitoring.drift.from_events import DriftObserver
from services.monitoring.drift.ports import Series, Traffic, Version
from services.monitoring.drift.windows import SLICE_S, Windows
from services.monitoring.events.allowance import Allowance
from tests.libs.drift.training import draw
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, REVISION, Watched
from tests.services.monitoring.drift.drift_windows import LAYOUT, SPANS, STEPS, filled

PER_SECOND = 100


def run(watched: Watched, now: float, seconds: int, rng: np.random.Generator, **change: Any) -> float:
    """Traffic for so long, with a look every ten seconds; returns when it ended."""
    for _ in range(0, seconds, int(SLICE_S)):
        for part in range(2):
            rows = draw(PER_SECOND * int(SLICE_S) // 2, rng, **change)
            watched.observe(rows, now + part * SLICE_S / 2)
        now += SLICE_S
        watched.monitor.look(now)
    return now


@pytest.mark.parametrize(
    ("change", "column", "check"),
    [
        ({"shift": 0.5}, "n3", "distribution"),
        ({"new_category": 0.01}, "carrier", "unseen"),
        ({"nulls": 0.05}, "m", "nulls"),
    ],
)
def test_a_change_is_named_within_5000_rows_and_is_over_after_it(
    baseline: Baseline, change: dict[str, float], column: str, check: str
) -> None:
    watched, rng = Watched(), np.random.default_rng(3)
    run(watched, BEGIN - 10, 10, rng)
    watched.monitor.adopt(LIVE, baseline)

    now = run(watched, BEGIN, 40, rng)
    assert watched.log.lines == []
    # 50 seconds are 5,000 rows.
    now = run(watched, now, 50, rng, **change)
    [raised] = watched.log.of("drift: raised")
    assert (raised["column"], raised["check"]) == (column, check)
    labels = {"pipeline": "flights", "arm": "live", "check": check}
    assert watched.metric("drift_level", **labels, column=column) in (1, 2)
    assert watched.metric("drift_alarms_total", **labels, level=raised["level"]) == 1

    run(watched, now, 70, rng)
    assert [line["column"] for line in watched.log.of("drift: over")] == [column]
    assert watched.metric("drift_level", **labels, column=column) == 0


def test_rows_that_come_before_the_baseline_is_read_are_counted_after_it(baseline: Baseline) -> None:
    watched = Watched()
    watched.observe(draw(500, np.random.default_rng(1)), BEGIN)
    assert watched.monitor.newest(LIVE) is None

    watched.monitor.adopt(LIVE, baseline)
    assert watched.monitor.newest(LIVE).rows == 500
    watched.monitor.look(BEGIN + 1)
    assert watched.metric("drift_judged_rows", pipeline="flights", arm="live") == 500


def test_only_so_many_batches_wait_for_a_baseline() -> None:
    watched = Watched()
    for _ in range(100):
        watched.observe({"x": [1.0]}, BEGIN)
    assert watched.metric("drift_refused_batches_total", why="waiting") == 36


def test_without_a_baseline_nothing_is_counted() -> None:
    watched = Watched()
    watched.observe({"x": [1.0, None]}, BEGIN)
    watched.monitor.adopt(LIVE, None)
    watched.monitor.look(BEGIN + 20)
    assert watched.monitor.newest(LIVE) is None
    assert watched.metric("drift_baseline", pipeline="flights", arm="live") == 0
    assert watched.metric("drift_judged_rows", pipeline="flights", arm="live") is None


def test_a_column_that_no_longer_comes_is_told_as_nulls(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    watched.observe(draw(1000, rng), BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    rows = draw(2000, rng)
    del rows["n5"]
    watched.observe(rows, BEGIN + 20)
    watched.monitor.look(BEGIN + 30)
    assert [(line["column"], line["check"]) for line in watched.log.of("drift: raised")] == [("n5", "nulls")]


def test_elements_of_a_tensor_are_columns() -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    tensors = Choices(tensors={"input": ("age", "wage")})
    baseline = baseline_of({"age": rng.normal(size=5000), "wage": rng.normal(size=5000)}, tensors)
    watched.observe({"input": rng.normal(size=(300, 2))}, BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    assert watched.monitor.newest(LIVE).number("wage").rows == 300


def test_a_batch_that_can_not_be_counted_is_passed_over(baseline: Baseline) -> None:
    watched = Watched()
    watched.observe(draw(10, np.random.default_rng(1)), BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    watched.observe({"n0": [1.0, 2.0], "n1": [1.0]}, BEGIN)
    watched.observe({}, BEGIN)
    watched.observe({"n0": []}, BEGIN)

    assert watched.metric("drift_refused_batches_total", why="malformed") == 1
    assert watched.monitor.newest(LIVE).rows == 10


def test_another_model_begins_anew(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    watched.observe(draw(3000, rng, shift=2.0), BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    watched.monitor.look(BEGIN + 5)
    assert watched.monitor.looks("flights")[0].alarms.raised

    watched.monitor.adopt(LIVE, baseline)
    assert watched.monitor.looks("flights")[0].alarms.raised, "the same baseline changes nothing"
    watched.monitor.adopt(LIVE, baseline_of(draw(5000, rng, shift=2.0), Choices(outputs=["probability"])))
    assert not watched.monitor.looks("flights")[0].alarms.raised
    assert watched.monitor.newest(LIVE).rows == 0


def test_the_series_that_was_silent_for_longest_makes_room() -> None:
    watched = Watched(series=2)
    first, second, third = (Series("flights", REVISION, arm) for arm in ("a", "b", "c"))
    for series in (first, second, first, third):
        watched.observe({"x": [1.0]}, BEGIN, series)
        watched.monitor.adopt(series, None)

    assert {look.series for look in watched.monitor.looks("flights")} == {first, third}
    assert watched.metric("drift_baseline", pipeline="flights", arm="b") is None
    assert watched.metric("drift_refused_batches_total", why="series") == 1
    watched.monitor.adopt(second, None)


def test_shadows_are_judged_apart_and_start_no_retraining(baseline: Baseline) -> None:
    watched, rng = Watched(retrain={"after_s": 0}), np.random.default_rng(1)
    series = Series("flights", REVISION, "live", Traffic.SHADOW)
    watched.observe(draw(2000, rng, shift=2.0), BEGIN, series)
    watched.monitor.adopt(series, baseline)
    watched.monitor.look(BEGIN + 5)
    assert [line["arm"] for line in watched.log.of("drift: raised")] == ["live/shadow"]
    assert watched.told.events == []


def test_drift_that_lasts_triggers_a_retraining_and_says_why(baseline: Baseline) -> None:
    watched, rng = Watched(retrain={"after_s": 30, "pause_s": 3600}), np.random.default_rng(1)
    watched.observe(draw(10, rng), BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    now = run(watched, BEGIN, 30, rng, shift=1.0, nulls=0.05)
    assert watched.told.events == []
    now = run(watched, now, 30, rng, shift=1.0, nulls=0.05)

    [event] = watched.told.events
    assert (event["event"], event["pipeline"], event["revision"]) == ("retrain", "flights", REVISION)
    [cause] = event["causes"]
    assert (cause["check"], cause["column"]) == ("distribution", "n3"), "nulls are no reason to learn anew"
    assert watched.metric("retrain_triggers_total", pipeline="flights", cause="distribution") == 1
    assert watched.metric("retrain_held_back_total", pipeline="flights") == 1


def test_concept_drift_is_told_from_outcomes() -> None:
    watched, version = Watched(retrain={"after_s": 0}), Version("flights", "live", "m=1")
    for i in range(1, 30):
        watched.monitor.errors({version: Count(100 * i, 10 * i)}, BEGIN + i)
    assert watched.metric("drift_concept", pipeline="flights", arm="live") == 0
    for i in range(1, 20):
        watched.monitor.errors({version: Count(2900 + 100 * i, 290 + 30 * i)}, BEGIN + 100 + i)

    assert watched.metric("drift_concept", pipeline="flights", arm="live") == 1
    [line] = watched.log.of("concept drift")
    assert "m=1" in line["what"]
    assert watched.told.events[0]["causes"][0]["check"] == "concept"


def header(**fields: Any) -> GroupHeader:
    return GroupHeader("flights", 1, REVISION, "live", **fields)


class Kept:
    """A monitor that keeps what it is given."""

    def __init__(self) -> None:
        self.series: Series | None = None
        self.columns: dict[str, Any] = {}

    def observe(self, series: Series, columns: dict[str, Any], now: float) -> None:
        self.series, self.columns = series, columns


def observed(about: GroupHeader, *columns: Column) -> Any:
    kept: Any = Kept()
    codes = Column.of(CODE, np.array([0, 13, 0], np.uint8))
    cached = Column.of(CACHED, np.array([False, False, True]))
    batch = {c.name: c for c in (codes, cached, *columns)}
    DriftObserver(kept, lambda: Allowance(1.0, 10)).observe(about, batch, 0.0)
    return kept


@pytest.mark.parametrize(
    ("about", "seen"),
    [
        (header(), Series("flights", REVISION, "live")),
        (header(shadow_of="live"), Series("flights", REVISION, "live", Traffic.SHADOW)),
        (header(replayed=True), None),
    ],
)
def test_failed_kept_and_replayed_rows_are_left_out_and_shadows_apart(
    about: GroupHeader, seen: Series | None
) -> None:
    kept = observed(about, Column.of("x", np.arange(3.0)))
    assert (kept.series, [values.tolist() for values in kept.columns.values()]) == (
        seen,
        [[0.0]] if seen else [],
    )


def test_values_missing_ones_and_text_arrive_and_personal_data_does_not() -> None:
    columns = observed(
        header(masked=("card",)),
        Column.of("x", np.array([0.0, 1.0, 3.0]), np.array([False, True, True])),
        Column.of("v", np.ones((3, 2), np.float32), np.array([True, True, False])),
        Column.of_text("carrier", ["UA", None, "B6"]),
        Column.of_bytes("pair", [b"a"] * 6, (2,)),
        Column.of_text("card", ["h1", "h2", "h3"]),
    ).columns
    assert columns.keys() == {"x", "v", "carrier", "pair"}
    assert (columns["x"].tolist(), columns["v"].tolist()) == ([None], [[1.0, 1.0]])
    assert (columns["carrier"], columns["pair"]) == (["UA"], None)


def test_of_more_rows_than_are_needed_a_part_is_counted_each_arm_its_own() -> None:
    watched = Watched()
    seen = DriftObserver(watched.monitor, lambda: Allowance(100.0, 200))
    batch = {c.name: c for c in (Column.of("x", np.ones(150)), Column.of(CODE, np.zeros(150, np.uint8)))}
    for now in (0.0, 0.1, 0.2, 0.3):
        seen.observe(header(), batch, now)
    # The second passes though less is left than it has; then nothing is left until a second and more has passed.
    assert watched.metric("drift_rows_total", pipeline="flights", arm="live") == 300
    assert watched.metric("drift_left_out_rows_total") == 300
    seen.observe(replace(header(), arm="canary"), batch, 0.4)
    assert watched.metric("drift_rows_total", pipeline="flights", arm="canary") == 150
    seen.observe(header(), batch, 2.0)
    assert watched.metric("drift_rows_total", pipeline="flights", arm="live") == 450


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


def test_all_is_bounded_and_a_late_batch_is_counted() -> None:
    windows, now = Windows(LAYOUT), 0.0
    for wait in [SLICE_S] * 20 + [60] * 70 + [3600] * 200:
        now += wait
        windows.at(now).update({"x": [1.0]}, 1)
    assert [len(windows.ended(span)) for span in SPANS] == [12, 60, 24, 7]
    # A late batch counts in the open slice.
    windows = Windows(LAYOUT)
    windows.at(1000.0).update({"x": [1.0]}, 1)
    windows.at(900.0).update({"x": [1.0]}, 1)
    assert windows.newest(10).rows == 2
