"""The first and the next release of a document: which versions it pins, what it refuses, and that refusing changes nothing; a
desired document from git is applied once, however often it is applied."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml

from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature, Pipeline
from headrace.releases import Release, ReleaseError, RolloutState
from headrace.releases.changes import (
    aborted,
    applied,
    checked,
    deployed,
    desired,
    labelled,
    promoted,
    switched,
)
from tests.libs.releases.small_pipeline import KNOWN, TEXT, Home, changed


@contextmanager
def refused(home: Home, *told: str) -> Iterator[None]:
    """What happens within is refused with these words, and nothing has changed."""
    before = home.store.records.position()
    with pytest.raises(ReleaseError) as error:
        yield
    for words in told:
        assert words in str(error.value)
    assert home.store.records.position() == before


def test_the_first_release_pins_every_model(home: Home) -> None:
    made = home.deploy()
    assert (made.number, made.parent, made.author, made.reason) == (1, 0, "me", "deploy version 1")
    # The newest by number, and what the document says.
    assert made.live.models == {"light": "10", "heavy": "7"}
    assert made.assign.weights == {"live": 1.0}
    assert home.store.current("small") == (made, None)
    # That can be used.
    assert home.deploy(changed(('    version: "7"\n', ""))).live.models["heavy"] == "7"


X, X3 = ColumnType(DType.FLOAT32), ColumnType(DType.FLOAT32, (3,))


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ({"x": X}, {}, "outputs.y: model 'light' has no output 'y'"),
        ({"x": X}, {"y": ColumnType(DType.INT64)}, "outputs.y: declared as float32, the model gives int64"),
        ({"x": X3}, {"y": X}, "inputs.x: column 'size' is float32, the model's input is float32[3]"),
        ({"x": X, "z": X}, {"y": X}, "inputs: the model needs its input 'z' too"),
    ],
)
def test_a_version_must_fit_the_document(
    home: Home, inputs: dict[str, ColumnType], outputs: dict[str, ColumnType], told: str
) -> None:
    fits = ModelSignature({"x": X}, {"y": X})

    def found(model: str, version: str) -> ModelSignature | None:
        return {("light", "2"): ModelSignature(inputs, outputs), ("light", "1"): fits}.get((model, version))

    known = replace(KNOWN, signature=found)
    for version in ("1", "10"):  # it fits; its signature is not known
        release = deployed(home.basis(), home.arm(models={"light": version}))
        checked(release, home.documents.text, known)
    release = deployed(home.basis(), home.arm(models={"light": "2"}))
    with pytest.raises(ReleaseError) as error:
        checked(release, home.documents.text, known)
    assert list(error.value.problems) == [
        f"arms.live.models.light: light 2 does not fit the document: stages[0].{told}"
    ]


@pytest.mark.parametrize(
    ("options", "models"),
    [
        ({"models": {"light": "2"}}, {"light": "2", "heavy": "7"}),
        ({"models": {"light": "old"}}, {"light": "1", "heavy": "7"}),
        ({"models": {"light": "best"}}, {"light": "2", "heavy": "7"}),
        # Models without the label: as without it.
        ({"label": "best"}, {"light": "2", "heavy": "7"}),
        ({"label": "best", "models": {"light": "10"}}, {"light": "10", "heavy": "7"}),
    ],
)
def test_a_label_becomes_a_version(home: Home, options: dict[str, Any], models: dict[str, str]) -> None:
    home.deploy()
    home.commit(labelled(home.basis(), "best", "light", "2", KNOWN))
    assert home.deploy(**options).live.models == models
    # What the label points at later changes nothing that is live.
    home.commit(labelled(home.basis(), "best", "light", "1", KNOWN))
    assert home.store.current("small")[0].live.models == models


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": {"light": "3"}}, "models.light: there is no version or label '3' of model 'light'"),
        ({"models": {"ligth": "2"}}, "models.ligth: the pipeline does not run model 'ligth'; did you mean"),
        ({"models": {"heavy": "8"}}, "models.heavy: version '8' of model 'heavy' can't be used: it crashed"),
        ({"label": "chmpion"}, "has the label 'chmpion'; did you mean 'champion'?"),
        ({"settings": {"first": {"x": 1}}}, "settings.first.x"),
        ({"settings": {"frist": {"x": 1}}}, "settings.frist: there is no such stage; did you mean"),
        ({"text": changed(("name: light", "name: lost"))}, "models.lost: there is no model 'lost'"),
        ({"text": changed(('"7"', '"8"'))}, "version '8' of model 'heavy' can't be used"),
        ({"text": changed(("small", "other"))}, "document small.yaml: it is that of pipeline 'other'"),
        ({"text": changed(("[answer]", "[nothing]"))}, "document small.yaml:18: outputs[0]"),
    ],
)
def test_what_is_wrong_is_named(home: Home, options: dict[str, Any], told: str) -> None:
    home.deploy()
    home.commit(labelled(home.basis(), "champion", "light", "2", KNOWN))
    with refused(home, told if told[0] not in "ms" else f"arms.live.{told}"):
        home.deploy(**options)


def test_one_model_in_two_versions_needs_a_choice(home: Home) -> None:
    label = changed(('version: "7"', "version: old"), ("name: heavy", "name: light"))
    assert home.deploy(label).live.models == {"light": "1"}
    two = changed(("name: light", 'name: heavy\n    version: "8"'))
    with refused(home, "models.heavy: stages of the document name the versions '7' and '8'; say which"):
        home.deploy(two)
    assert home.deploy(two, models={"heavy": "7"}).live.models == {"heavy": "7"}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("  size:", "  more: {type: int32}\n  size:")], "it has an input 'more', which the arm 'live'"),
        ([("shape: [3]", "shape: [4]")], "its input 'vector' is float32[4], that of 'live' is float32[3]"),
        ([("required: false", "required: true")], "it requires the input 'vector', which 'live' does not"),
        (
            [("  name: {type: string, max_bytes: 8}\n", "")],
            "it has no input 'name', which the arm 'live' has",
        ),
        (
            [("answer, type: float32", "answer, type: float64")],
            "its output 'answer' is float64, that of 'live'",
        ),
        ([("[answer]", "[answer, middle]")], "the arm 'next' has an output 'middle', which 'live' has not"),
        ([("n: answer", "n: reply"), ("[answer]", "[reply]")], "the arm 'live' has an output 'answer'"),
    ],
)
def test_an_arm_answers_what_the_live_one_does(home: Home, pairs: list[tuple[str, str]], told: str) -> None:
    home.deploy()
    with refused(home, f"arms.next.revision: {told}"):
        home.deploy(changed(*pairs), "next")
    # The live arm itself may change, as long as no other arm is left behind.
    home.deploy(changed(*pairs))
    home.deploy(name="live")
    home.deploy(name="next")
    if "requires" not in told:
        with refused(home, "arms.next.revision: "):
            home.deploy(changed(*pairs))


def test_labels_come_and_go(home: Home) -> None:
    home.deploy()
    one = home.commit(labelled(home.basis(), "best", "light", "old", KNOWN))
    assert one.labels == {"best": {"light": "1"}}
    two = home.commit(labelled(home.basis(), "best", "heavy", "7", KNOWN))
    assert two.labels == {"best": {"light": "1", "heavy": "7"}}
    assert two.models() >= {("light", "1"), ("heavy", "7")}
    with refused(home, "labels.best.light: model 'light' has no version '3'"):
        labelled(home.basis(), "best", "light", "3", KNOWN)
    home.commit(labelled(home.basis(), "best", "light", None, KNOWN))
    with refused(home, "labels.best: there is no such label of model 'light'"):
        labelled(home.basis(), "best", "light", None, KNOWN)
    with refused(home, "labels.10: this is a version of model 'light'"):
        labelled(home.basis(), "10", "light", "2", KNOWN)
    last = home.commit(labelled(home.basis(), "best", "heavy", None, KNOWN))
    assert last.labels == {}


def test_nothing_can_be_changed_before_the_first_release(home: Home) -> None:
    with refused(home, "the first release must have the arm 'live'"):
        home.deploy(name="other")
    with refused(home, "models.light: there is no version", "models.heavy: version '8'"):
        home.deploy(models={"light": "3", "heavy": "8"})
    with refused(home, "pipeline: it has no release yet; make the first: headrace release deploy small"):
        labelled(home.basis(), "best", "light", "1", KNOWN)
    with refused(home, "it has no release yet"):
        switched(home.basis(), frozen=True)


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
