"""`headrace release`, `rollout` and `experiment`, as a person or a script types them, at a control."""

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.cli.commands.operations import door_calls
from headrace.cli.installation import control_place, layout
from headrace.releases.document import to_bytes
from headrace.repository.records import Records
from tests.control_service import Here
from tests.libs.cli.released_home import (
    ROLLOUT,
    add_model,
    current,
    ok,
    refused,
    run,
    write_document,
)
from tests.libs.releases.small_pipeline import TEXT, changed
from tests.released import spoil


def test_a_release_lives_its_life(home: Path) -> None:
    said = ok(home, "release", "deploy", "small", "--models", "light=1", "--reason", "begin")
    assert "arms.live.models.light — 1" in said
    assert "no holdback: there is no release before it" in said
    assert "release 1 of small is current" in said
    assert "headrace release show small" in said or "release show small" in said
    assert "nothing to change (release 1)" in ok(home, "release", "deploy", "small", "--models", "light=1")

    said = ok(home, "release", "deploy", "small", "--no-holdback")
    assert "arms.live.models.light 1 10 no holdback: it is not wanted" in said
    assert "release rollback small" in said
    said = ok(home, "release", "rollback", "small", "--reason", "too slow")
    assert "arms.live.models.light 10 1" in said
    shown = json.loads(ok(home, "release", "show", "small", "--json"))
    assert (shown["number"], shown["restores"], shown["reason"]) == (3, 1, "too slow")
    assert "release 1" in ok(home, "release", "show", "small")
    assert ok(home, "release", "show").split()[7:11] == ["small", "3", "1", "heavy"]

    history = json.loads(ok(home, "release", "history", "small", "--json"))
    assert [(r["number"], r["rolled_back_by"]) for r in history["releases"]] == [(3, None), (2, 3), (1, None)]
    said = ok(home, "release", "history", "small")
    assert "begin" in said
    assert "rolled back by 3" in said
    assert "rolled back: 2" in refused(home, "release", "rollback", "small")
    assert ok(home, "release", "remove", "small") == "done: small is out of service"
    assert current(home) is None


def test_adding_a_document_or_a_model_changes_nothing_that_is_live(home: Path) -> None:
    ok(home, "release", "deploy", "small")
    before = current(home)
    add_model(home, "light", "11")
    write_document(home, changed(("version: 1", "version: 2")))
    assert current(home) == before
    said = ok(home, "release", "deploy", "small", "--no-holdback", "--dry-run")
    assert "arms.live.version 1 2" in said
    assert "arms.live.models.light 10 11" in said
    assert "nothing was changed (--dry-run)" in said
    assert current(home) == before


def test_labels_and_what_must_stay(home: Path) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=old")
    assert current(home).live.models == {"light": "1", "heavy": "7"}
    said = ok(home, "release", "label", "small", "champion", "light:2")
    assert "release deploy small --label champion" in said
    said = ok(home, "release", "deploy", "small", "--arm", "next", "--models", "light=10")
    assert "the arm 'next' gets no rows by it" in said

    ok(home, "models", "label", "light", "old", "--delete")

    def remove(model: str, version: str) -> Result:
        return run(home, "models", "remove", model, version)

    for version, where in (("2", "(label champion)"), ("10", "(arm next)"), ("1", "(arm live)")):
        result = remove("light", version)
        told = f"release 3 of pipeline small {where} names light version {version}; change it first"
        assert (result.exit_code, told in " ".join(result.output.split())) == (1, True)
    assert remove("heavy", "10").exit_code == 0
    ok(home, "release", "label", "small", "champion", "light", "--delete")
    assert remove("light", "2").exit_code == 0
    assert "names no version" in refused(home, "release", "label", "small", "champion", "light", code=2)
    told = refused(home, "release", "label", "small", "champion", "light:2")
    assert "labels.champion.light: model 'light' has no version '2' (there are: 1, 10)" in told


def test_a_document_that_names_a_label_which_stands_for_nothing(home: Path) -> None:
    named = changed(('version: "7"', "version: champion"))
    write_document(home, named)
    document = home / "pipelines" / "small" / "pipeline.yaml"
    line = next(i for i, text in enumerate(named.splitlines(), 1) if "version: champion" in text)

    def check() -> Result:
        return run(home, "pipeline", "check", document)

    told = " ".join(check().output.split())
    assert check().exit_code == 1
    assert f"{document}:{line}: stages[1].version: model 'heavy' has no version or label 'champion'" in told
    assert "headrace release label small champion heavy:VERSION" in told
    assert "arms.live.models.heavy: there is no version or label 'champion'" in refused(
        home, "release", "deploy", "small"
    )
    # A label of the release, or of the repository, is one.
    write_document(home, TEXT)
    ok(home, "release", "deploy", "small")
    ok(home, "release", "label", "small", "champion", "heavy:7")
    write_document(home, named)
    assert check().exit_code == 0, check().output
    ok(home, "release", "label", "small", "champion", "heavy", "--delete")
    assert "did you mean 'champions'" in " ".join(check().output.split()) or check().exit_code == 1
    ok(home, "models", "label", "heavy:7", "champion")
    assert check().exit_code == 0, check().output


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("deploy", "smal"), 1, "has no document of this pipeline; did you mean 'small'?"),
        (("deploy", "small", "--models", "light"), 2, "is not NAME=VALUE"),
        (("deploy", "small", "--set", "first=1"), 2, "is not STAGE.KEY=VALUE"),
        (("deploy", "small", "--set", "first.k=1"), 1, "arms.live.settings.first.k"),
        (("deploy", "small", "--label", "best"), 1, "has the label 'best'"),
        (("deploy", "small", "--document", "/nowhere"), 1, "/nowhere"),
        (("deploy", "small", "--number", "7"), 3, "number: the change was made for release 7, but 1 is live"),
        (("rollback", "small", "--to", "9"), 1, "there is no release 9"),
        (("show", "other"), 1, "pipeline other has no release that can be read (with one: small)"),
        (("remove", "other"), 1, "it has no release"),
    ],
)
def test_what_is_wrong_is_named(home: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    ok(home, "release", "deploy", "small")
    assert told in refused(home, "release", *arguments, code=code)


def test_a_version_in_quarantine_is_refused(home: Path) -> None:
    Records(home / "executor").quarantine("light:10", {"problem": "it ends the process"})
    ok(home, "release", "deploy", "small")
    assert current(home).live.models["light"] == "2"
    told = refused(home, "release", "deploy", "small", "--models", "light=10")
    assert "can't be used: it is in quarantine (it ends the process)" in told


def test_apply_from_git(home: Path, tmp_path: Path) -> None:
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "pipeline.yaml").write_text(TEXT)
    file = tmp_path / "git" / "release.yaml"

    def write(light: str, **more: Any) -> None:
        arm = {"document": "pipeline.yaml", "models": {"light": light, "heavy": "7"}}
        file.write_text(yaml.safe_dump({"pipeline": "small", "arms": {"live": arm}, **more}))

    write("1", reason="from git")
    ok(home, "release", "apply", "-f", file)
    assert current(home).reason == "from git"
    assert "nothing to change (release 1)" in ok(home, "release", "apply", "-f", file)
    write("2")
    ok(home, "release", "apply", "-f", file)
    ok(home, "release", "rollback", "small")
    assert "nothing to change (release 3)" in ok(home, "release", "apply", "-f", file)
    ok(home, "release", "apply", "-f", file, "--again")
    assert current(home).live.models["light"] == "2"
    # What is shown can be applied.
    shown = run(home, "release", "show", "small", "--desired").output
    assert yaml.safe_load(shown).keys() == {"pipeline", "arms"}
    file.write_text(shown)
    assert "nothing to change" in ok(home, "release", "apply", "-f", file)
    for content, told in (
        ("a: [", "is no YAML"),
        ("[]", "holds no mapping"),
        ("{}", "names no pipeline"),
        ("{pipeline: small, arms: {live: {document: 3}}}", "arms.live.document: needs the path"),
        ("{pipeline: small, arms: {live: {document: x}}}", "document "),
    ):
        file.write_text(content)
        assert told in refused(home, "release", "apply", "-f", file)


def test_a_freeze_stops_automation_and_nobody_else(home: Path) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    ok(home, "release", "freeze", "--reason", "holidays")
    assert "(holidays)" in refused(home, *ROLLOUT)
    assert "all automation is frozen" in ok(home, "release", "show")
    ok(home, "release", "deploy", "small", "--models", "light=10")
    ok(home, "release", "freeze", "--off")
    ok(home, "release", "freeze", "small", "--reason", "night")
    assert "(night)" in refused(home, *ROLLOUT)
    ok(home, "release", "freeze", "small", "--off")
    ok(home, *ROLLOUT)


def test_the_way_back_is_open_without_the_models(home: Path, control: Here) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    said = ok(home, "release", "deploy", "small", "--models", "light=2")
    assert "assign.weights.candidate — 95 %" in said
    assert "rollout status small" in said
    ok(home, "rollout", "promote", "small")
    ok(home, "rollout", "start", "small", "--models", "light=10")
    control.execute("UPDATE records SET content = ? WHERE kind = 'model' AND name = 'light'", b"{")
    assert "can't be read" in refused(home, "release", "deploy", "small")
    said = ok(home, "rollout", "abort", "small")
    assert "not compared with the models" in said
    ok(home, "release", "rollback", "small")
    assert current(home).live.models["light"] == "1"
    ok(home, "release", "freeze", "small")


def test_a_release_that_was_altered_shows_and_the_next_change_follows_it(home: Path, control: Here) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    ok(home, "release", "deploy", "small", "--models", "light=2")
    made = current(home)
    assert made is not None
    spoil(control.database, "small", 2, to_bytes(made).replace(b'"light": "2"', b'"light": "10"'))
    said = ok(home, "release", "show", "small")
    assert "release 2 can't be used (headrace status: what serves): sha256: the document was altered" in said
    ok(home, "release", "deploy", "small", "--models", "light=10")
    assert current(home).number == 3


def test_where_control_is(home: Path, control: Here) -> None:
    at = layout.of(home)
    assert control_place.target(at) == control.target
    for settings, told in (
        ("store: redis://x", "releases: name where control is"),
        ("store: 3", "releases.yaml, line 1, store: "),
        ("", f"headrace does not run in {home}, and control says what is live"),
    ):
        at.override("releases").write_text(settings)
        result = run(home, "release", "show")
        assert (result.exit_code, told in " ".join(result.output.split())) == (1, True)
    # Its lock is held while a home runs.
    at.lock.parent.mkdir(parents=True, exist_ok=True)
    with at.lock.open("w") as lock:
        lock.write("7")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert control_place.target(at) == f"unix-dir:{at.listed('control')}"


def test_a_shadow_is_started_with_a_share(home: Path) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    said = ok(home, "shadow", "start", "small", "--models", "light=2", "--share", "20")
    assert "shadow report small" in said
    release = current(home)
    assert (release.shadow.arm, release.shadow.share) == ("shadow", 0.2)
    assert release.arms["shadow"].models["light"] == "2"


def test_models_are_told_by_what_the_releases_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    ok(home, *ROLLOUT)
    records = Records(home / "executor")

    def post(_: object, path: str, *__: object) -> None:
        if path.endswith("/load"):
            records.serve(*path.split("/")[-2].split(":"))

    monkeypatch.setattr("headrace.cli.commands.operations.door_calls.post", post)
    assert "light:10 is loaded; pipeline small runs version 1, 2 (arm candidate)" in ok(
        home, "models", "load", "light:10"
    )
    records.quarantine("heavy:10", {"problem": "it ends the process"})
    listed = [line.split("  ") for line in run(home, "models", "list").stdout.splitlines()[1:]]
    told = {(w[0], w[1]): w[2] for line in listed if len(w := [word.strip() for word in line if word]) > 2}
    assert told[("light", "2")] == "small (arm candidate)"
    assert told[("light", "10")] == "loaded"
    assert (told[("heavy", "7")], told[("heavy", "10")]) == ("small, small (arm candidate)", "in quarantine")
    assert "light:10 is unloaded; pipeline small runs version 1, 2 (arm candidate)" in ok(
        home, "models", "unload", "light:10"
    )


def test_a_rollout_is_steered(home: Path) -> None:
    assert "it has no release yet" in refused(home, *ROLLOUT)
    ok(home, "release", "deploy", "small", "--models", "light=1")
    assert "there was no rollout yet" in ok(home, "rollout", "status", "small")
    for wrong in ("speed", "shift=stop"):
        assert "NAME or NAME=ACTION of errors" in refused(home, *ROLLOUT, "--guard", wrong, code=2)
    steps = ("--ladder", "5,50,100", "--deadline", "30m", "--otherwise", "promote")
    said = ok(home, *ROLLOUT, *steps, "--guard", "errors", "--guard", "shift=tell")
    assert current(home).rollout.guards["shift"].action == "tell"
    assert "assign.weights.candidate — 5 %" in said
    assert "rollout status small" in said
    rollout = current(home).rollout
    assert (rollout.ladder, rollout.deadline_s, rollout.otherwise) == ((0.05, 0.5, 1.0), 1800, "promote")
    status = ok(home, "rollout", "status", "small")
    assert all(word in status for word in ("running", "candidate", "5% → 50% → 100%", "none yet"))
    assert "end it before another one" in refused(home, *ROLLOUT)
    assert "end it before a deployment" in refused(home, "release", "deploy", "small", "--models", "light=10")
    ok(home, "rollout", "pause", "small")
    assert json.loads(ok(home, "rollout", "status", "small", "--json"))["rollout"]["state"] == "paused"
    ok(home, "rollout", "resume", "small")
    ok(home, "rollout", "promote", "small", "--yes")
    assert current(home).live.models["light"] == "2"
    assert "none is running, the last one is over (promoted)" in refused(home, "rollout", "abort", "small")
    ok(home, "rollout", "start", "small", "--models", "light=10")
    ok(home, "rollout", "abort", "small")
    assert current(home).live.models["light"] == "2"


def test_a_rollout_is_shown_as_the_analyser_sees_it_or_as_the_release_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    ok(home, *ROLLOUT)
    alone = ok(home, "rollout", "status", "small")
    assert "monitoring does not answer (headrace is not running here" in alone
    assert "from the release document:" in alone
    assert "none yet" in alone

    live = monitoring_pb2.RateFigures(unit_count=2000, bad_count=2, low=0.0001, high=0.004)
    guard = monitoring_pb2.GuardFigures(guard="slow", verdict="harm", live=live, slow_over_s=0.25)
    look = monitoring_pb2.GetRolloutResponse(
        leads=True, release=2, action="hold", waits_for="no counts arrive"
    )
    shift = monitoring_pb2.GuardFigures(guard="shift", action="pause", says="a PSI of 0.02", unknown="seats")
    look.guards.extend([guard, shift])
    look.deadline_time.FromSeconds(2_000_000_000)
    monkeypatch.setattr(door_calls, "answer", lambda *_: pb.GetRolloutResponse(rollout=look))
    said = ok(home, "rollout", "status", "small")
    assert "does not answer" not in said
    assert "shift (pause): a PSI of 0.02; not known: seats" in said
    for figure in ("hold: no counts arrive", "slow over 250 ms", "2 of 2000: 0.10%", "2033-05-18", "harm"):
        assert figure in said
    told = json.loads(ok(home, "rollout", "status", "small", "--json"))
    assert told["analysis"]["guards"][0]["live"]["unit_count"] == "2000"
    assert told["analysis_problem"] is None
    ok(home, "rollout", "abort", "small")
    # It is over: the release says all that there is.
    assert "does not answer" not in ok(home, "rollout", "status", "small")


def test_an_experiment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(home, "release", "deploy", "small", "--models", "light=1")
    ok(home, "release", "deploy", "small", "--arm", "b", "--models", "light=2")
    start = ("experiment", "start", "small", "seats", "--outcome", "late", "--by", "name")
    told = refused(home, *start, "--weight", "live=0.5", "--weight", "b=0.6")
    assert "assign: the weights add up to 1.1, not to 1" in told
    ok(home, *start, "--weight", "live=0.5,b=0.5")
    assert current(home).experiment.arms == ("live", "b")
    alone = ok(home, "experiment", "status", "small")
    assert "seats, phase 1" in alone
    assert "monitoring does not answer" in alone
    interval = monitoring_pb2.Interval(value=0.1, low=-0.2, high=0.4)
    arms = [
        monitoring_pb2.ExperimentArm(arm="live", exposed_key_count=200, outcome_key_count=50, mean=2.5),
        monitoring_pb2.ExperimentArm(arm="b", mean=2.6, difference=interval, relative=interval),
    ]
    found = monitoring_pb2.ReadExperimentResponse(experiment="seats", arms=arms, sample_ratio_expected=True)
    with monkeypatch.context() as patch:
        patch.setattr(door_calls, "answer", lambda *_: pb.ReadExperimentResponse(experiment=found))
        said = ok(home, "experiment", "status", "small")
    figures = ("50 (25%)", "2.5", "+0.1 (-0.2 … +0.4)", "+10.00% (-20.00% … +40.00%)", "as the weights say")
    assert all(figure in said for figure in figures)
    ok(home, "experiment", "stop", "small")
    assert current(home).experiment is None
    assert "no experiment runs" in ok(home, "experiment", "status", "small")
