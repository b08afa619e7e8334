"""What the console's page says of drift."""

from __future__ import annotations

import json

import numpy as np

from headrace.drift import Baseline, Choices, baseline_of
from services.monitoring.console.ports import Panel
from services.monitoring.drift.panel import DriftPanel
from services.monitoring.drift.ports import Series, Traffic
from tests.libs.drift.training import draw
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, REVISION, Watched


async def shown(watched: Watched) -> Panel:
    found = await DriftPanel(watched.monitor.looks)("flights")
    assert found is not None
    json.dumps(found.data, allow_nan=False)
    return found


async def test_columns_that_differ_come_first_with_their_checks(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    watched.observe(draw(3000, rng, shift=0.5, new_category=0.02, nulls=0.05), BEGIN)
    watched.monitor.adopt(LIVE, baseline)
    watched.monitor.look(BEGIN + 5)
    panel = await shown(watched)
    assert panel.sentence == "carrier, m, n3 differ from the data that the model learned from."
    assert {row.label for row in panel.rows[:3]} == {"carrier", "m", "n3"}
    assert panel.level in ("watch", "bad")
    notes = {row.label: row.note for row in panel.rows if row.level != "good" and "PSI" not in row.value}
    assert notes["m"] == "missing values; 1\u00a0% in the baseline"
    assert "'ZZ'" in notes["carrier"]
    bars = [row for row in panel.rows if row.value.startswith("PSI")]
    assert (bars[0].label, bars[0].level) == ("n3", "watch")
    assert {row.label for row in bars} == set(baseline.columns), "each column's distribution has a bar"
    levels = [row.level for row in panel.rows]
    assert levels == sorted(levels, key=("bad", "watch", "good").index)
    assert all(row.share is not None and 0 <= row.share <= 1 for row in panel.rows)


async def test_fine_rows_too_few_rows_and_no_baseline_are_told_apart(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    assert await DriftPanel(watched.monitor.looks)("flights") is None
    watched.observe(draw(100, rng), BEGIN)
    watched.monitor.adopt(LIVE, None)
    assert (await shown(watched)).sentence.startswith("The model has no baseline")
    watched.monitor.adopt(LIVE, baseline)
    watched.observe(draw(100, rng), BEGIN)
    watched.monitor.look(BEGIN + 5)
    assert (await shown(watched)).sentence.startswith("Too few rows")
    watched.observe(draw(2000, rng), BEGIN + 5)
    watched.monitor.look(BEGIN + 15)
    panel = await shown(watched)
    assert panel.sentence.startswith("The newest 2\u202f100 rows look like")
    assert panel.level == "good"


async def test_shadows_have_rows_of_their_own_and_kept_answers_none(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    for traffic in (Traffic.LIVE, Traffic.SHADOW, Traffic.CACHED):
        series = Series("flights", REVISION, "live", traffic)
        watched.observe(draw(2000, rng), BEGIN, series)
        watched.monitor.adopt(series, baseline)
    watched.monitor.look(BEGIN + 5)
    panel = await shown(watched)
    assert {row.label.partition(": ")[0] for row in panel.rows} == {"live", "live/shadow"}
    assert [series["arm"] for series in panel.data["series"]] == ["live", "live/shadow"]


def test_only_a_calibrated_model_has_an_expected_accuracy(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    p = rng.beta(2, 5, size=5000)
    for truths, named in ((rng.random(5000) < p, "p"), (rng.random(5000) < 0.9, None)):
        made = baseline_of({"x": rng.normal(size=5000), "p": p, "y": truths}, Choices(calibration=("p", "y")))
        assert "y" not in made.columns
        watched.observe({"x": [1.0], "p": [0.5]}, BEGIN)
        watched.monitor.adopt(LIVE, made)
        assert watched.monitor.calibrated("flights", REVISION, "live") == named
    assert watched.monitor.calibrated("flights", REVISION, "other") is None
