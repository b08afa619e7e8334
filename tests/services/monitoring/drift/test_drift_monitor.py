"""From rows to alarms: each change is named in time and is over after it; alarms end with the arm that they describe."""

from typing import Any

import numpy as np
import pytest

from headrace.analysis import Count
from headrace.drift import Baseline, Choices, baseline_of
from services.monitoring.drift.ports import Series, Traffic, Version
from tests.libs.drift.training import draw
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, REVISION, Watched


def run(watched: Watched, now: float, looks: int, rng: np.random.Generator, **change: Any) -> float:
    """A look at new rows every ten seconds; returns when it ended."""
    for _ in range(looks):
        now += 10
        watched.look(draw(2000, rng, **change), now)
    return now


@pytest.mark.parametrize(
    ("change", "column", "check"),
    [
        ({"shift": 0.5}, "n3", "distribution"),
        ({"new_category": 0.01}, "carrier", "unseen"),
        ({"nulls": 0.05}, "m", "nulls"),
    ],
)
def test_a_change_is_named_at_once_and_is_over_after_it(
    baseline: Baseline, change: dict[str, float], column: str, check: str
) -> None:
    watched, rng = Watched(), np.random.default_rng(3)
    watched.follow(baseline)
    now = run(watched, BEGIN, 4, rng)
    assert watched.log.lines == []
    now = run(watched, now, 1, rng, **change)
    [raised] = watched.log.of("drift: raised")
    assert (raised["column"], raised["check"]) == (column, check)
    labels = {"pipeline": "flights", "arm": "live", "check": check}
    assert watched.metric("drift_level", **labels, column=column) in (1, 2)

    now = run(watched, now, 2, rng)
    watched.monitor.judge(LIVE, None, now)
    assert [line["column"] for line in watched.log.of("drift: over")] == [column]
    assert watched.metric("drift_level", **labels, column=column) == 0


@pytest.mark.parametrize("where", ["tenant acme", "carrier DL", ""])
def test_the_segment_that_alone_changed_is_named(baseline: Baseline, where: str) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    columns, tenants = draw(2000, rng), rng.choice(["acme", "big", "other"], 2000, p=[0.2, 0.5, 0.3])
    kind, _, name = where.partition(" ")
    rows = np.array({"tenant": tenants, "carrier": columns["carrier"]}.get(kind, [""] * 2000)) == name
    # Rows of a segment change much, those of all as little as is just seen.
    columns["n3"][rows] += 3.0 if name else 0.33
    columns["m"][rows & (rng.random(2000) < (0.9 if name else 0.05))] = np.ma.masked
    watched.follow(baseline)
    watched.look(columns, BEGIN, tenants=tenants.tolist())
    raised = watched.log.of("drift: raised")
    assert {(line["column"], line["check"]) for line in raised} >= {("n3", "distribution"), ("m", "nulls")}
    assert {line["segment"] for line in raised} == {where}


def test_without_a_baseline_or_rows_nothing_is_judged(baseline: Baseline) -> None:
    watched = Watched()
    watched.follow(None)
    watched.look({"x": [1.0] * 500}, BEGIN)
    assert watched.metric("drift_baseline", pipeline="flights", arm="live") == 0
    assert watched.metric("drift_judged_rows", pipeline="flights", arm="live") is None
    watched.follow(baseline)
    watched.look(draw(199, np.random.default_rng(1)), BEGIN)
    assert watched.metric("drift_judged_rows", pipeline="flights", arm="live") == 0
    watched.look(draw(200, np.random.default_rng(1)), BEGIN)
    assert watched.metric("drift_judged_rows", pipeline="flights", arm="live") == 200


def test_a_column_that_no_longer_comes_is_told_as_nulls(baseline: Baseline) -> None:
    watched = Watched()
    watched.follow(baseline)
    watched.look({**draw(2000, np.random.default_rng(1)), "n5": None}, BEGIN)
    assert [(line["column"], line["check"]) for line in watched.log.of("drift: raised")] == [("n5", "nulls")]


def test_alarms_and_gauges_end_with_the_arm_and_begin_anew_with_another_model(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    watched.follow(baseline)
    watched.look(draw(3000, rng, shift=2.0), BEGIN)
    assert watched.monitor.looks("flights")[0].alarms.raised
    watched.follow(baseline)
    assert watched.monitor.looks("flights")[0].alarms.raised, "the same baseline changes nothing"
    watched.follow(baseline_of(draw(5000, rng, shift=2.0), Choices(outputs=["probability"])), since=2)
    assert not watched.monitor.looks("flights")[0].alarms.raised
    assert watched.log.of("drift is told from another baseline")
    watched.look(draw(3000, rng), BEGIN)
    gauge = {"pipeline": "flights", "arm": "live", "column": "n3", "check": "distribution"}
    assert watched.metric("drift_level", **gauge) == 2
    watched.monitor.follow({})
    assert watched.metric("drift_level", **gauge) is None
    assert watched.metric("drift_baseline", pipeline="flights", arm="live") is None
    assert watched.monitor.looks("flights") == []


def test_shadows_are_judged_apart_and_start_no_retraining(baseline: Baseline) -> None:
    watched, rng = Watched(retrain={"after_s": 0}), np.random.default_rng(1)
    series = Series("flights", REVISION, "live", Traffic.SHADOW)
    watched.follow(baseline, series)
    watched.look(draw(2000, rng, shift=2.0), BEGIN, series)
    assert [line["arm"] for line in watched.log.of("drift: raised")] == ["live/shadow"]
    assert watched.due == []


def test_drift_that_lasts_triggers_a_retraining_and_says_why(baseline: Baseline) -> None:
    watched, rng = Watched(retrain={"after_s": 30, "pause_s": 3600}), np.random.default_rng(1)
    watched.follow(baseline)
    now = run(watched, BEGIN, 3, rng, shift=1.0, nulls=0.05)
    assert watched.due == []
    for seconds in (10, 20):  # there are no others
        watched.monitor.judge(LIVE, None, now + seconds)

    [line] = watched.due
    assert (line["pipeline"], line["arm"]) == ("flights", "live")
    [cause] = line["causes"]
    assert cause.startswith("n3 (input): its distribution differs"), "nulls are no reason to learn anew"
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
    assert watched.metric("retrain_triggers_total", pipeline="flights", cause="concept") == 1


def test_outputs_far_beyond_the_baseline_are_out_of_range() -> None:
    watched = Watched()
    watched.follow(baseline_of({"x": np.arange(11.0), "y": np.arange(11.0)}, Choices(outputs=["y"])))
    assert watched.monitor.ranges("flights", REVISION, "live") == {"y": (-10.0, 20.0)}
    assert watched.monitor.ranges("flights", REVISION, "other") == {}
