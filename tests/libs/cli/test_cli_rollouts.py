"""`headrace rollout` and `experiment`, as a person or a script types them, on the files of a home."""

import json
from pathlib import Path

import pytest

from headrace.api.monitoring.v1 import monitoring_pb2
from headrace.api.operations.v1 import operations_pb2 as pb
from headrace.cli.commands.operations import door_calls
from tests.libs.cli.released_home import ROLLOUT, current, ok, refused


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
