"""A desired document from git: applied once, however often it is applied."""

from typing import Any

import pytest
import yaml

from headrace.pipeline import Pipeline
from headrace.releases import Release, ReleaseError, RolloutState
from headrace.releases.changes import aborted, applied, desired, promoted
from tests.libs.releases.small_pipeline import KNOWN, TEXT, Home, changed


def wanted(light: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "pipeline": "small",
        "arms": {"live": {"document": "small", "models": {"light": light, "heavy": "7"}}},
        **more,
    }


def apply(home: Home, document: dict[str, Any], *, again: bool = False) -> Release | None:
    said = "deadline_ms: 300\nguards: {shift: tell, wrong: pause}"
    texts = {"small": TEXT, "changed": changed(("deadline_ms: 250", said))}

    def find(key: str, value: Any) -> Pipeline:
        if value not in texts:
            raise ReleaseError("small", [f"{key}: {value} can't be read"])
        return home.documents.add(texts[value], f"{value}.yaml")

    # As it comes from a file.
    found = yaml.safe_load(yaml.safe_dump(document))
    made = applied(home.basis(), found, KNOWN, find, again=again)
    return home.commit(made) if made is not None else None


def test_the_first_and_a_next_one(home: Home) -> None:
    first = apply(home, wanted(reason="begin"))
    assert (first.number, first.reason, first.live.models["light"]) == (1, "begin", "1")
    assert apply(home, wanted(reason="begin")) is None
    second = apply(home, wanted("2", caps={"rows_per_s": 10}))
    assert (second.number, second.caps.rows_per_s) == (2, 10)
    # What is not in the document any more is not live any more.
    assert apply(home, wanted("2")).caps is None
    other = wanted("2")
    other["arms"]["live"]["document"] = "changed"
    assert apply(home, other).live.revision != first.live.revision


def test_a_label_becomes_a_version_and_must_exist(home: Home) -> None:
    made = apply(home, wanted("best", labels={"best": {"light": "2"}}))
    assert made.live.models["light"] == "2"
    assert apply(home, wanted("old")).live.models["light"] == "1"
    with pytest.raises(ReleaseError, match=r"arms\.live\.models\.light: model 'light' has no version 'best'"):
        apply(home, wanted("best"))


def test_a_rollout_in_the_document_is_started_once(home: Home) -> None:
    apply(home, wanted())
    rolling = wanted(assign={"weights": {"live": 1.0}, "by": "name"}, rollout={"ladder": [0.2, 1.0]})
    rolling["arms"]["candidate"] = {"document": "small", "models": {"light": "2", "heavy": "7"}}
    made = apply(home, rolling)
    assert made is not None
    assert made.assign.weights == {"live": 0.8, "candidate": 0.2}
    assert (made.assign.by, made.assign.salt, made.rollout.state) == ("name", "small-2", RolloutState.RUNNING)
    shown = desired(home.basis().current)
    assert shown["assign"] == {"weights": {"live": 1.0}, "by": "name"}
    assert not {"step", "state", "started", "verdict"} & shown["rollout"].keys()
    assert apply(home, rolling) is None
    # While it runs, nothing else may be applied over it.
    with pytest.raises(ReleaseError, match=r"rollout: the one of arm 'candidate' is running"):
        apply(home, wanted("10"))
    home.commit(promoted(home.basis()))
    assert apply(home, rolling) is None
    # The document as it should be afterwards: nothing differs but that the rollout is over.
    assert apply(home, wanted("2")).live.models["light"] == "2"


def test_what_was_rolled_back_is_not_rolled_out_again(home: Home) -> None:
    apply(home, wanted())
    rolling = wanted(rollout={"guards": {"wrong": {"action": "go_back"}}})
    rolling["arms"]["candidate"] = {"document": "changed", "models": {"light": "2", "heavy": "7"}}
    guards = apply(home, rolling).rollout.guards
    assert {name: guard.action for name, guard in guards.items()} == {"shift": "tell", "wrong": "go_back"}
    home.commit(aborted(home.basis()))
    assert apply(home, rolling) is None
    rolling["arms"]["candidate"]["models"]["light"] = "10"
    assert apply(home, rolling).rollout.state is RolloutState.RUNNING


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"number": 3}, "number: is given by the store; leave it out"),
        ({"sha256": "x"}, "sha256: is given by the store"),
        ({"armz": {}}, "armz: there is no such key; did you mean 'arms'?"),
        ({"pipeline": "other"}, "pipeline: the document is that of 'other'"),
        ({"arms": [1]}, "arms: needs a mapping"),
        ({"arms": {"live": 3}}, "arms.live: needs a mapping"),
        ({"arms": {"live": {"document": "nowhere"}}}, "arms.live.document: nowhere can't be read"),
        ({"arms": {"live": {"document": "small"}}}, "arms.live.models: names no version of 'light'"),
        (
            {"arms": {"live": {"version": 1, "revision": "a" * 64}}},
            "arms.live.revision: its document is not stored",
        ),
        ({"arms": {"live": {"version": 1, "revision": "a"}}}, "arms.live.revision"),
        ({"arms": {"live": {"document": "small", "weight": 3}}}, "arms.live.weight"),
        ({"assign": {"weights": {"live": 0.5}}}, "assign: the weights add up to 0.5"),
        ({"assign": {"weights": {"live": 0.5, "b": 0.5}}}, "assign.weights.b: there is no arm 'b'"),
        ({"rollout": {}}, "there is no arm 'candidate'"),
        ({"rollout": {"step": 2}}, "rollout.step: is kept by the rollout"),
        ({"rollout": 3}, "rollout: needs a mapping"),
        ({"rollout": {}, "assign": {"weights": {"live": 0.5}}}, "assign.weights: a rollout sets the weights"),
        ({"labels": {"best": {"light": "3"}}}, "labels.best.light: model 'light' has no version '3'"),
        ({"labels": 3}, "labels"),
        ({"frozen": "maybe"}, "frozen"),
    ],
)
def test_a_wrong_document_changes_nothing(home: Home, change: dict[str, Any], told: str) -> None:
    first = apply(home, wanted())
    with pytest.raises(ReleaseError) as error:
        apply(home, wanted() | change)
    assert told in str(error.value)
    assert home.store.current("small") == (first, None)
