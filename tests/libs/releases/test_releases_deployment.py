"""The first and the next release of a document: which versions it pins, what it refuses, and that refusing changes nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature
from headrace.releases import ReleaseError
from headrace.releases.changes import checked, deployed, differences, labelled, same_content, switched
from tests.libs.releases.small_pipeline import KNOWN, Home, changed


@contextmanager
def refused(home: Home, *told: str) -> Iterator[None]:
    """What happens within is refused with these words, and nothing has changed."""
    before = home.store.wait("", 0)
    with pytest.raises(ReleaseError) as error:
        yield
    for words in told:
        assert words in str(error.value)
    assert home.store.wait(before, 0) == before


def test_the_first_release_pins_every_model(home: Home) -> None:
    made = home.deploy()
    assert (made.number, made.parent, made.author, made.reason) == (1, 0, "me", "deploy version 1")
    # The newest by number, and what the document says.
    assert made.live.models == {"light": "10", "heavy": "7"}
    assert made.assign.weights == {"live": 1.0}
    assert home.store.current("small") == (made, None)


def test_the_newest_that_can_be_used_is_taken(home: Home) -> None:
    assert home.deploy(changed(('    version: "7"\n', ""))).live.models["heavy"] == "7"


X = ColumnType(DType.FLOAT32)


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (ModelSignature({"x": X}, {}), "stages[0].outputs.y: model 'light' has no output 'y'"),
        (
            ModelSignature({"x": X}, {"y": ColumnType(DType.INT64)}),
            "stages[0].outputs.y: declared as float32, the model gives int64",
        ),
        (
            ModelSignature({"x": ColumnType(DType.FLOAT32, (3,))}, {"y": X}),
            "stages[0].inputs.x: column 'size' is float32, the model's input is float32[3]",
        ),
        (ModelSignature({"x": X, "z": X}, {"y": X}), "stages[0].inputs: the model needs its input 'z' too"),
    ],
)
def test_a_version_must_take_and_give_what_the_document_says(
    home: Home, signature: ModelSignature, told: str
) -> None:
    fits = ModelSignature({"x": X}, {"y": X})

    def found(model: str, version: str) -> ModelSignature | None:
        return {("light", "2"): signature, ("light", "1"): fits}.get((model, version))

    known = replace(KNOWN, signature=found)
    for version in ("1", "10"):  # it fits; its signature is not known
        release = deployed(home.basis(), home.arm(models={"light": version}))
        checked(release, home.documents.text, known)
    release = deployed(home.basis(), home.arm(models={"light": "2"}))
    with pytest.raises(ReleaseError) as error:
        checked(release, home.documents.text, known)
    assert list(error.value.problems) == [
        f"arms.live.models.light: light 2 does not fit the document: {told}"
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


def test_a_document_may_name_a_label(home: Home) -> None:
    assert home.deploy(
        changed(('version: "7"', "version: old"), ("name: heavy", "name: light"))
    ).live.models == {"light": "1"}


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (
            {},
            {"models": {"light": "3"}},
            "arms.live.models.light: there is no version or label '3' of model 'light'",
        ),
        (
            {},
            {"models": {"ligth": "2"}},
            "arms.live.models.ligth: the pipeline does not run model 'ligth'; did you mean",
        ),
        (
            {},
            {"models": {"heavy": "8"}},
            "arms.live.models.heavy: version '8' of model 'heavy' can't be used: it crashed",
        ),
        ({}, {"label": "chmpion"}, "has the label 'chmpion'; did you mean 'champion'?"),
        ({}, {"settings": {"first": {"x": 1}}}, "arms.live.settings.first.x"),
        (
            {},
            {"settings": {"frist": {"x": 1}}},
            "arms.live.settings.frist: there is no such stage; did you mean",
        ),
        ({"name: light": "name: lost"}, {}, "arms.live.models.lost: there is no model 'lost'"),
        ({'version: "7"': 'version: "8"'}, {}, "version '8' of model 'heavy' can't be used"),
        ({"pipeline: small": "pipeline: other"}, {}, "document small.yaml: it is that of pipeline 'other'"),
        ({"outputs: [answer]": "outputs: [nothing]"}, {}, "document small.yaml:18: outputs[0]"),
    ],
)
def test_what_is_wrong_is_named(home: Home, text: dict[str, str], options: dict[str, Any], told: str) -> None:
    home.deploy()
    home.commit(labelled(home.basis(), "champion", "light", "2", KNOWN))
    with refused(home, told):
        home.deploy(changed(*text.items()), **options)


def test_one_model_in_two_versions_needs_a_choice(home: Home) -> None:
    two = changed(("name: light", 'name: heavy\n    version: "8"'))
    with refused(
        home, "arms.live.models.heavy: stages of the document name the versions '7' and '8'; say which"
    ):
        home.deploy(two)
    assert home.deploy(two, models={"heavy": "7"}).live.models == {"heavy": "7"}


def test_the_first_release_needs_a_live_arm(home: Home) -> None:
    with refused(home, "the first release must have the arm 'live'"):
        home.deploy(name="other")


def test_another_arm_gets_no_rows(home: Home) -> None:
    first = home.deploy()
    second = home.deploy(name="next", models={"light": "2"})
    assert second.assign == first.assign
    assert second.live == first.live
    assert second.arms["next"].models["light"] == "2"


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (
            [("size: {type: float32}", "size: {type: float32}\n  more: {type: int32}")],
            "it has an input 'more', which the arm 'live'",
        ),
        (
            [("vector: {type: float32, shape: [3]", "vector: {type: float32, shape: [4]")],
            "its input 'vector' is float32[4], that of 'live' is float32[3]",
        ),
        ([("required: false", "required: true")], "it requires the input 'vector', which 'live' does not"),
        (
            [("  name: {type: string, max_bytes: 8}\n", "")],
            "it has no input 'name', which the arm 'live' has",
        ),
        (
            [("answer, type: float32", "answer, type: float64")],
            "its output 'answer' is float64, that of 'live' is float32",
        ),
        (
            [("outputs: [answer]", "outputs: [answer, middle]")],
            "the arm 'next' has an output 'middle', which 'live' has not",
        ),
        (
            [("column: answer", "column: reply"), ("[answer]", "[reply]")],
            "the arm 'live' has an output 'answer'",
        ),
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


def test_every_problem_is_told_at_once(home: Home) -> None:
    with refused(home, "arms.live.models.light: there is no version", "arms.live.models.heavy: version '8'"):
        home.deploy(models={"light": "3", "heavy": "8"})


def test_the_same_again_is_no_difference(home: Home) -> None:
    first = home.deploy()
    again = deployed(home.basis(), home.arm())
    assert same_content(first, again)
    other = deployed(home.basis(), home.arm(models={"light": "2"}))
    assert [str(d) for d in differences(first, other)] == ["arms.live.models.light: 10 → 2"]


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
    with refused(home, "pipeline: it has no release yet; make the first: headrace release deploy small"):
        labelled(home.basis(), "best", "light", "1", KNOWN)
    with refused(home, "it has no release yet"):
        switched(home.basis(), frozen=True)


def test_a_broken_newest_release_is_followed(home: Home) -> None:
    home.deploy()
    home.deploy(models={"light": "2"})
    home.spoil(2)
    made = home.deploy(models={"light": "1"})
    assert (made.number, made.parent) == (3, 2)
    home.spoil(1, 3)
    assert home.deploy().number == 4
