"""The first and the next release of a document: which versions it pins, what it refuses, and that refusing changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature
from headrace.releases import ReleaseError
from headrace.releases.changes import checked, deployed, labelled, switched
from tests.libs.releases.small_pipeline import KNOWN, Home, changed


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
