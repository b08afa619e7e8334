"""What the drift monitor counts of prediction events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.columns import Column
from headrace.events import CACHED, CODE, GroupHeader
from services.monitoring.drift.from_events import DriftObserver
from services.monitoring.drift.ports import Series, Traffic
from services.monitoring.events.allowance import Allowance
from tests.services.monitoring.drift.drift_monitor import REVISION, Watched


def header(**fields: Any) -> GroupHeader:
    return GroupHeader("flights", 1, REVISION, "live", **fields)


def observed(columns: list[Column], about: GroupHeader, codes: list[int], cached: list[bool]) -> Watched:
    watched = Watched()
    own = [Column.of(CODE, np.array(codes, np.uint8)), Column.of(CACHED, np.array(cached))]
    for series in [Series("flights", REVISION, "live", t) for t in Traffic]:
        # Nobody looks for baselines here: without one, columns are counted and not judged.
        watched.monitor.observe(
            series.pipeline, series.revision, series.arm, {"x": [0.0]}, 0.0, series.traffic
        )
        watched.monitor.adopt(series, None)
    DriftObserver(watched.monitor).observe(about, {c.name: c for c in [*columns, *own]}, 0.0)
    return watched


def rows(watched: Watched, traffic: Traffic = Traffic.LIVE) -> int:
    """Those of the events, beside the one that each series began with."""
    sketch = watched.monitor.newest(Series("flights", REVISION, "live", traffic))
    assert sketch is not None
    return sketch.rows - 1


def test_failed_and_kept_rows_do_not_count_as_live() -> None:
    x = Column.of("x", np.arange(5.0))
    watched = observed([x], header(), [0, 13, 0, 0, 0], [False, False, True, True, False])
    assert (rows(watched), rows(watched, Traffic.CACHED)) == (2, 2)


@pytest.mark.parametrize(
    ("about", "traffic"),
    [
        (header(replayed=True), Traffic.REPLAYED),
        (header(shadow_of="live"), Traffic.SHADOW),
        (header(), Traffic.LIVE),
    ],
)
def test_rows_that_callers_did_not_ask_for_are_apart(about: GroupHeader, traffic: Traffic) -> None:
    watched = observed([Column.of("x", np.arange(3.0))], about, [0] * 3, [False] * 3)
    assert {t: rows(watched, t) for t in Traffic} == {t: 3 * (t == traffic) for t in Traffic}


class Kept:
    """A monitor that keeps what it is given."""

    def __init__(self) -> None:
        self.columns: dict[str, Any] = {}

    def observe(self, *given: Any) -> None:
        self.columns = given[3]


def test_values_missing_ones_and_text_arrive_and_personal_data_does_not() -> None:
    columns = [
        Column.of("x", np.array([1.0, 0.0, 3.0]), np.array([True, False, True])),
        Column.of("v", np.ones((3, 2), np.float32), np.array([True, True, False])),
        Column.of_text("carrier", ["UA", None, "B6"]),
        Column.of_bytes("pair", [b"a"] * 6, (2,)),
        Column.of_text("card", ["h1", "h2", "h3"]),
        Column.of(CODE, np.zeros(3, np.uint8)),
    ]
    kept: Any = Kept()
    DriftObserver(kept).observe(header(masked=("card",)), {c.name: c for c in columns}, 0.0)
    assert kept.columns.keys() == {"x", "v", "carrier", "pair"}
    assert kept.columns["x"].tolist() == [1.0, None, 3.0]
    assert kept.columns["v"].tolist() == [[1.0, 1.0], [1.0, 1.0], [None, None]]
    assert (kept.columns["carrier"], kept.columns["pair"]) == (["UA", None, "B6"], None)


def test_of_more_rows_than_are_needed_a_part_is_counted_each_arm_its_own() -> None:
    watched = Watched()
    seen = DriftObserver(watched.monitor, lambda: Allowance(100.0, 200))
    columns = [Column.of("x", np.ones(150)), Column.of(CODE, np.zeros(150, np.uint8))]
    batch = {c.name: c for c in [*columns, Column.of(CACHED, np.zeros(150, bool))]}
    for now in (0.0, 0.1, 0.2, 0.3):
        seen.observe(header(), batch, now)
    # The second passes though less is left than it has; then nothing is left until a second and more has passed.
    assert watched.metric("drift_rows_total", pipeline="flights", arm="live") == 300
    assert watched.metric("drift_left_out_rows_total") == 300
    seen.observe(replace(header(), arm="canary"), batch, 0.4)
    assert watched.metric("drift_rows_total", pipeline="flights", arm="canary") == 150
    seen.observe(header(), batch, 2.0)
    assert watched.metric("drift_rows_total", pipeline="flights", arm="live") == 450
