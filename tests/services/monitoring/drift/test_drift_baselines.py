"""Where the baseline of an arm comes from, the task that looks for it, and what the console's page says of drift."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headrace.analysis import Count
from headrace.columns import DType
from headrace.drift import Baseline, Choices, baseline_of, publication_of
from headrace.hop.testing import served
from headrace.releases import Arm, Release
from headrace.repository import TensorSpec
from services.monitoring.console.ports import Panel
from services.monitoring.drift.panel import DriftPanel
from services.monitoring.drift.ports import Series, Traffic, Version
from services.monitoring.drift.release_baselines import ReleaseBaselines
from services.monitoring.drift.watch import Watch
from services.monitoring.wiring import SERVICE
from tests.libs.drift.baseline_models import OUTPUT, BaselineModels
from tests.libs.drift.training import draw
from tests.released import released
from tests.services.clock import Clock
from tests.services.monitoring.drift.drift_monitor import BEGIN, LIVE, REVISION, Watched
from tests.services.monitoring.monitoring_outcomes import Log

AGE, WAGE = TensorSpec("age", DType.FLOAT32), TensorSpec("wage", DType.FLOAT32)


class Releases:
    """Newest first."""

    def __init__(self, *models: dict[str, str]) -> None:
        self.all = [
            Release(pipeline="flights", number=i, arms={"live": Arm(version=1, revision=REVISION, models=m)})
            for i, m in reversed(list(enumerate(models, 1)))
        ]

    def history(self, pipeline: str) -> list[Release]:
        return self.all if pipeline == "flights" else []


class Models(BaselineModels):
    def put(self, name: str, version: str, tensor: TensorSpec) -> Baseline:
        made = baseline_of({tensor.name: np.arange(100.0) * int(version)}, Choices())
        self.add(name, version, tensor, *publication_of(made, [tensor], [OUTPUT]))
        return made


def test_the_newest_release_of_the_arm_says_which(tmp_path: Path) -> None:
    models, log = Models(tmp_path), Log()
    refused: list[str] = []
    models.put("m", "1", AGE)
    second = models.put("m", "2", AGE)
    baselines = ReleaseBaselines(Releases({"m": "1"}, {"m": "2"}), models.repository, log, refused.append)

    assert baselines(LIVE) == second
    assert baselines(Series("flights", "cd" * 32, "live")) is None
    assert baselines(Series("flights", REVISION, "other")) is None
    assert baselines(Series("unknown", REVISION, "live")) is None
    assert (log.lines, refused) == ([], [])


def test_columns_of_several_models_are_watched_together(tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.put("a", "1", AGE)
    models.put("b", "1", WAGE)
    models.add("c", "1", WAGE, {})
    found = ReleaseBaselines(
        Releases({"a": "1", "b": "1", "c": "1"}), models.repository, Log(), lambda _: None
    )(LIVE)
    assert set(found.columns) == {"age", "wage"}


def test_a_baseline_that_is_not_trusted_is_said_once_and_judges_nothing(tmp_path: Path) -> None:
    models, log = Models(tmp_path), Log()
    refused: list[str] = []
    made = models.put("m", "1", AGE)
    file = models.root / "m" / "1" / "baseline.json"
    file.write_bytes(file.read_bytes() + b" ")
    baselines = ReleaseBaselines(Releases({"m": "1"}), models.repository, log, refused.append)

    assert [baselines(LIVE), baselines(LIVE)] == [None, None]
    [line] = log.of("a baseline can't be used")
    assert "baseline.json" in line["why"]
    assert refused == ["baseline"]
    file.write_bytes(made.to_bytes())
    assert baselines(LIVE) == made, "it was mended"


async def test_the_watch_finds_baselines_judges_and_survives_failures() -> None:
    watched, clock, asked = Watched(), Clock(BEGIN), []
    made = baseline_of({"x": np.random.default_rng(1).normal(size=5000)}, Choices())
    version = Version("flights", "live", "m=1")

    def baselines(series: Series) -> Baseline:
        asked.append(series)
        if len(asked) == 1:
            raise OSError("the store is away")
        return made

    async def errors() -> dict[Version, Count]:
        if len(asked) == 1:
            raise RuntimeError("the disk is gone")
        return {version: Count(2000, 100)}

    with ThreadPoolExecutor(1) as threads:
        watch = Watch(watched.monitor, baselines, errors, clock, threads, watched.log, refresh_s=30.0)
        watched.observe({"x": np.random.default_rng(2).normal(3, 1, 500)}, clock.now)
        await watch.step()
        assert watched.log.of("a baseline could not be looked for")
        [line] = watched.log.of("drift could not be judged")
        assert "the disk is gone" in line["error"]
        clock.now += 31
        await watch.step()
        assert {line["column"] for line in watched.log.of("drift: raised")} == {"x"}
        assert watched.metric("drift_error_rate", pipeline="flights", arm="live") == 0.05
        clock.now += 1
        await watch.step()
        assert len(asked) == 2, "it is looked for anew after refresh_s only"


async def test_the_service_runs_it(tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.put("m", "1", AGE)
    drift = {"models": str(models.root), "trust": {"keys": [str(models.public)]}}
    with released(tmp_path / "control") as releases:
        async with served(SERVICE, {"control": releases.client, "drift": drift}) as harness:
            value = harness.runtime.telemetry.registry.get_sample_value
            assert value("headrace_drift_series") == 0


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


async def test_shadows_have_rows_of_their_own(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    for traffic in Traffic:
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


def test_outputs_are_out_of_range_far_beyond_what_the_model_gave_in_training() -> None:
    watched = Watched()
    made = baseline_of({"x": np.array([0.0, 9.0]), "p": np.array([0.0, 1.0])}, Choices())
    output = made.columns["p"].model_copy(update={"role": "output"})
    watched.observe({"x": [1.0], "p": [0.5]}, BEGIN)
    watched.monitor.adopt(LIVE, made.model_copy(update={"columns": {**made.columns, "p": output}}))
    assert watched.monitor.ranges("flights", REVISION, "live") == {"p": (-1.0, 2.0)}
    assert watched.monitor.ranges("flights", REVISION, "other") == {}
