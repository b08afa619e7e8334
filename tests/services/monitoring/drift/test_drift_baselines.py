"""Where the baseline of an arm comes from, the task that looks for it, and what the console's page says of drift."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headrace.analysis import Count
from headrace.columns import DType
from headrace.drift import Baseline, Choices, baseline_of, publication_of
from headrace.hop.testing import served
from headrace.releases import Arm, Release, Shadow
from headrace.repository import TensorSpec
from services.monitoring.console.ports import Panel
from services.monitoring.database.facts import Facts
from services.monitoring.drift import persistence
from services.monitoring.drift.panel import DriftPanel
from services.monitoring.drift.ports import Followed, Rows, Series, Traffic, Version
from services.monitoring.drift.release_baselines import ReleaseBaselines
from services.monitoring.drift.retrain.policy import Cause, Trigger
from services.monitoring.drift.watch import Watch
from services.monitoring.outcomes.records import StorageError
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

    def pipelines(self) -> list[str]:
        return ["flights"]

    def history(self, pipeline: str) -> list[Release]:
        return self.all if pipeline == "flights" else []


class Models(BaselineModels):
    def put(self, name: str, version: str, tensor: TensorSpec) -> Baseline:
        made = baseline_of({tensor.name: np.arange(100.0) * int(version)}, Choices())
        self.add(name, version, tensor, *publication_of(made, [tensor], [OUTPUT]))
        return made


def test_each_arm_of_the_newest_release_has_the_baseline_of_what_it_runs(tmp_path: Path) -> None:
    models, log = Models(tmp_path), Log()
    refused: list[bool] = []
    models.put("m", "1", AGE)
    second = models.put("m", "2", AGE)
    history = Releases({"m": "1"}, {"m": "2"}, {"m": "2"})
    baselines = ReleaseBaselines(history, models.repository, log, lambda: refused.append(True))
    assert baselines() == {LIVE: Followed(second, since=2)}
    shadow = history.all[0].model_copy(
        update={"arms": {**history.all[0].arms, "next": history.all[-1].arms["live"]}}
    )
    history.all[0] = shadow.model_copy(update={"shadow": Shadow(arm="next", share=1.0)})
    found = baselines()
    beside = Series("flights", REVISION, "next", Traffic.SHADOW)
    assert {series: f.since for series, f in found.items()} == {LIVE: 2, beside: 3}
    assert (log.lines, refused) == ([], [])


def test_columns_of_several_models_are_watched_together(tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.put("a", "1", AGE)
    models.put("b", "1", WAGE)
    models.add("c", "1", WAGE, {})
    releases = Releases({"a": "1", "b": "1", "c": "1"})
    found = ReleaseBaselines(releases, models.repository, Log(), lambda: None)()[LIVE].baseline
    assert set(found.columns) == {"age", "wage"}


def test_a_baseline_that_is_not_trusted_is_said_once_and_judges_nothing(tmp_path: Path) -> None:
    models, log = Models(tmp_path), Log()
    refused: list[bool] = []
    made = models.put("m", "1", AGE)
    file = models.root / "m" / "1" / "baseline.json"
    file.write_bytes(file.read_bytes() + b" ")
    baselines = ReleaseBaselines(Releases({"m": "1"}), models.repository, log, lambda: refused.append(True))

    assert [baselines()[LIVE].baseline, baselines()[LIVE].baseline] == [None, None]
    [line] = log.of("a baseline can't be used")
    assert "baseline.json" in line["why"]
    assert refused == [True]
    file.write_bytes(made.to_bytes())
    assert baselines()[LIVE].baseline == made, "it was mended"


async def test_the_watch_finds_baselines_judges_and_survives_failures(facts: Facts) -> None:
    watched, clock, asked = Watched(), Clock(BEGIN), 0
    made = baseline_of({"x": np.random.default_rng(1).normal(size=5000)}, Choices())
    version, before = Version("flights", "live", "m=1"), list[object]()
    other = Series("flights", REVISION, "other")

    def baselines() -> dict[Series, Followed]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("the store is away")
        return {other: Followed(made, 1), LIVE: Followed(made, 1)}

    async def newest(series: Series, followed: Followed, now: float, judged: object) -> Rows | None:
        assert now == clock.now
        if series == other:
            raise StorageError("the disk is gone")
        before.append(judged)
        return Rows({"x": np.random.default_rng(2).normal(3, 1, 500)}, 500, stored=len(before))

    async def errors() -> dict[Version, Count]:
        if asked == 1:
            raise RuntimeError("the disk is gone")
        return {version: Count(2000, 100)}

    with ThreadPoolExecutor(1) as threads:
        watch = Watch(watched.monitor, baselines, newest, errors, clock, threads, watched.log, facts)
        await watch.step()
        assert watched.log.events == ["what arms run could not be read", "error rates could not be judged"]
        clock.now += 31
        await watch.step()
        assert len(watched.log.of("drift could not be judged")) == 1
        assert {line["column"] for line in watched.log.of("drift: raised")} == {"x"}
        assert watched.metric("drift_error_rate", pipeline="flights", arm="live") == 0.05
        clock.now += 11
        await watch.step()
        assert before == [None, 1], "what was judged is known"
        assert asked == 2, "it is looked for anew after REFRESH_S only"


async def test_references_of_error_rates_and_the_limit_of_retrainings_outlive_the_process(
    facts: Facts,
) -> None:
    version = Version("flights", "live", "m=1")
    cause = Trigger("flights", REVISION, "live", BEGIN, (Cause("unseen", "carrier", "new", BEGIN),))
    first = Watched(retrain={"after_s": 0})
    first.monitor.errors({version: Count(2000, 200)}, BEGIN)
    first.retraining.consider(cause)
    facts.write(lambda connection: persistence.save(connection, first.monitor.states()))
    # While it was away, a third was wrong.
    again = Watched(retrain={"after_s": 0, "concept": False})
    again.monitor.restore(facts.query(persistence.load))
    again.retraining.consider(cause)
    assert (len(first.due), len(again.due)) == (1, 0)
    again.monitor.errors({version: Count(4000, 900)}, BEGIN)
    assert again.metric("drift_concept", pipeline="flights", arm="live") == 1
    again.monitor.restore({version: {"reference": "none"}})
    assert again.log.of("the reference of an error rate can't be read; it begins anew")


async def test_the_service_runs_it(tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.put("m", "1", AGE)
    drift = {"models": str(models.root), "trust": {"keys": [str(models.public)]}}
    with released(tmp_path / "control") as releases:
        async with served(SERVICE, {"control": releases.client, "drift": drift}) as harness:
            value = harness.runtime.telemetry.registry.get_sample_value
            assert value("headrace_drift_unusable_baselines_total") == 0


async def shown(watched: Watched) -> Panel:
    found = await DriftPanel(watched.monitor.looks)("flights")
    assert found is not None
    json.dumps(found.data, allow_nan=False)
    return found


async def test_columns_that_differ_come_first_with_their_checks(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    watched.follow(baseline)
    watched.look(draw(3000, rng, shift=0.5, new_category=0.02, nulls=0.05), BEGIN)
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
    watched.follow(None)
    assert (await shown(watched)).sentence.startswith("The model has no baseline")
    watched.follow(baseline)
    watched.look(draw(100, rng), BEGIN)
    assert (await shown(watched)).sentence.startswith("Too few rows")
    watched.look(draw(2100, rng), BEGIN)
    panel = await shown(watched)
    assert panel.sentence.startswith("The newest 2\u202f100 rows look like")
    assert panel.level == "good"


async def test_shadows_have_rows_of_their_own(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    series = [Series("flights", REVISION, "live", traffic) for traffic in Traffic]
    watched.monitor.follow({one: Followed(baseline, 1) for one in series})
    for one in series:
        watched.look(draw(2000, rng), BEGIN, one)
    panel = await shown(watched)
    assert {row.label.partition(": ")[0] for row in panel.rows} == {"live", "live/shadow"}
    assert [series["arm"] for series in panel.data["series"]] == ["live", "live/shadow"]


def test_only_a_calibrated_model_has_an_expected_accuracy(baseline: Baseline) -> None:
    watched, rng = Watched(), np.random.default_rng(1)
    p = rng.beta(2, 5, size=5000)
    for truths, named in ((rng.random(5000) < p, "p"), (rng.random(5000) < 0.9, None)):
        made = baseline_of({"x": rng.normal(size=5000), "p": p, "y": truths}, Choices(calibration=("p", "y")))
        assert "y" not in made.columns
        watched.follow(made)
        assert watched.monitor.calibrated("flights", REVISION, "live") == named
    assert watched.monitor.calibrated("flights", REVISION, "other") is None
