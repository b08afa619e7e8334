"""How documents say cascades and ensembles: what is read, refused, compared with models, and what a release pins and sets."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.columns import DType
from headrace.pipeline import (
    CascadeStage,
    ColumnType,
    EnsembleStage,
    ModelSignature,
    ModelStage,
    SettingError,
    Unsure,
    check,
    kind_of,
    parse,
    plan,
)
from headrace.steps.value_ranges import Values
from tests.libs.pipeline.pipeline_documents import complaints, parsed

CASCADE = """\
pipeline: p
version: 1
deadline_ms: 1000
inputs:
  x: {type: float32, shape: [3]}
  z: {type: float32}
  amount: int64
  name: string
stages:
  - cascade: score
    light:
      name: small
      inputs: {in: x}
      outputs: {out: {column: p, type: float32, shape: [2]}}
    heavy:
      name: large
      version: "4"
      inputs: {a: x, b: z}
      outputs: {y: {column: p, type: float32, shape: [2]}}
      budget_ms: 200
      least_ms: 5
    score: p
    element: 1
    decision: 0.3
    threshold: 0.1
    valuable: {amount: 1000}
outputs: [p]
"""
ENSEMBLE = """\
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: float32, z: float32}
stages:
  - ensemble: score
    members:
      first: {name: small, inputs: {in: x}, output: out, required: true, weight: 2}
      second: {name: large, version: 3, inputs: {a: x, b: z}, output: y, budget_ms: 50}
    combine: mean
    into: {column: p, type: float32}
    quorum: 2
    order: serial
outputs: [p]
"""
F32 = ColumnType(DType.FLOAT32)
PAIR = ColumnType(DType.FLOAT32, (2,))


def cascade(text: str = CASCADE) -> CascadeStage:
    [stage] = parse(text, "p.yaml").stages
    assert isinstance(stage, CascadeStage)
    return stage


def ensemble(text: str = ENSEMBLE) -> EnsembleStage:
    [stage] = parse(text, "p.yaml").stages
    assert isinstance(stage, EnsembleStage)
    return stage


def keys(text: str) -> list[tuple[str, str]]:
    """Key and message of each problem, without the line."""
    return [tuple(c.split(": ", 2)[1:]) for c in complaints(text)]  # type: ignore[misc]  # each has both


def test_a_cascade_is_read() -> None:
    stage = cascade()
    assert (stage.light.model, stage.light.version) == ("small", "")
    assert (stage.heavy.model, stage.heavy.version) == ("large", "4")
    assert stage.unsure == Unsure("p", 0.1, 0.3, 1)
    assert stage.valuable == {"amount": 1000.0}
    assert (stage.budget_ms, stage.least_ms) == (200.0, 5.0)
    [planned] = plan(parse(CASCADE, "p.yaml")).stages
    assert planned.reads == ("x", "z", "amount")
    assert planned.writes == {"p": PAIR}


def test_an_ensemble_is_read() -> None:
    stage = ensemble()
    assert list(stage.members) == ["first", "second"]
    first, second = stage.members.values()
    assert (first.weight, first.required, first.budget_ms) == (2.0, True, None)
    assert (second.weight, second.required, second.budget_ms) == (1.0, False, 50.0)
    assert second.model.version == "3"
    assert (stage.combine, stage.quorum, stage.parallel) == ("mean", 2, False)
    [planned] = plan(parse(ENSEMBLE, "p.yaml")).stages
    assert planned.reads == ("x", "z")
    assert planned.writes == {"p": F32}
    assert ensemble(ENSEMBLE.replace("    quorum: 2\n", "")).quorum == 1


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("threshold: 0.1", "treshold: 0.1", "treshold", "unknown key; did you mean 'threshold'?"),
        ("threshold: 0.1", "threshold: -1", "threshold", "should be a number (at least 0), is '-1'"),
        ("decision: 0.3", "decision: high", "decision", "should be a number, is 'high'"),
        ("    decision: 0.3\n", "", "element", "belongs to a `decision`"),
        ("element: 1", "element: 2", "element", "column 'p' is float32[2]; its elements are counted from 0"),
        ("score: p", "score: q", "score", "should be a column that the light model writes: p"),
        ("name: large", "name: small", "heavy", "is 'small', as the light model"),
        ("y: {column: p,", "y: {column: q,", "heavy", "writes the columns q, the light model p"),
        ("      inputs: {in: x}\n", "", "light", "needs the key 'inputs'"),
        ("budget_ms: 200", "budget_ms: 0", "heavy.budget_ms", "should be a number (at least 1 and at most"),
        ("amount: 1000", "amount: lots", "valuable.amount", "should be a number, is 'lots'"),
        ("{amount: 1000}", "{amont: 1000}", "valuable.amont", "no input and no stage gives 'amont'"),
        ("b: z", "b: zz", "heavy.inputs.b", "no input and no stage gives 'zz'"),
    ],
)
def test_what_is_wrong_with_a_cascade_is_named(old: str, new: str, key: str, message: str) -> None:
    assert old in CASCADE
    found = keys(CASCADE.replace(old, new))
    assert [k for k, m in found if m.startswith(message)] == [f"stages[0].{key}"], found


def test_a_cascade_without_decision_needs_two_elements() -> None:
    text = CASCADE.replace("    decision: 0.3\n", "").replace("    element: 1\n", "")
    assert cascade(text).unsure == Unsure("p", 0.1)
    single = text.replace(", shape: [2]", "")
    assert keys(single) == [
        ("stages[0].score", "column 'p' has one element per row: say from which `decision` its margin counts")
    ]
    whole = CASCADE.replace("type: float32, shape: [2]", "type: int32, shape: [2]")
    assert keys(whole) == [("stages[0].score", "column 'p' is int32[2]; a margin needs floats")]


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("quorum: 2", "quorum: 3", "quorum", "should be an integer from 1 to 2, is '3'"),
        ("order: serial", "order: any", "order", "'any' is not one of parallel, serial"),
        ("combine: mean", "combine: median", "combine", "'median' is not one of mean, vote"),
        ("weight: 2", "weight: 0", "members.first.weight", "should be above 0"),
        ("weight: 2", "weigth: 2", "members.first.weigth", "unknown key; did you mean 'weight'?"),
        ("name: large", "name: small", "members", "'first' and 'second' run the model 'small'"),
        (
            "combine: mean",
            "combine: vote",
            "into",
            "is float32; votes are for one whole number or bool per row",
        ),
        ("type: float32}", "type: int64}", "into", "is int64; a mean needs floats"),
        ("output: y", "outputs: {y: p}", "members.second", "needs the key 'output'"),
    ],
)
def test_what_is_wrong_with_an_ensemble_is_named(old: str, new: str, key: str, message: str) -> None:
    assert old in ENSEMBLE
    found = keys(ENSEMBLE.replace(old, new, 1))
    assert f"stages[0].{key}" in [k for k, m in found if m.startswith(message)], found


def test_an_ensemble_has_at_least_two_members() -> None:
    [line] = [n for n in ENSEMBLE.splitlines() if "second:" in n]
    text = ENSEMBLE.replace(line + "\n", "").replace("    quorum: 2\n", "")
    assert keys(text) == [("stages[0].members", "needs from 2 to 16 members")]


MODELS = {
    "small": ModelSignature({"in": ColumnType(DType.FLOAT32, (3,))}, {"out": PAIR}),
    "large": ModelSignature({"a": ColumnType(DType.FLOAT32, (3,)), "b": F32}, {"y": PAIR}),
}


def findings(text: str, models: dict[str, ModelSignature]) -> list[tuple[str, str]]:
    return [(p.key, p.message) for p in check(parse(text, "p.yaml"), models, None)]


def test_a_cascade_is_compared_with_both_models() -> None:
    assert findings(CASCADE, MODELS) == []
    other = {**MODELS, "large": ModelSignature({"a": F32, "b": F32}, {"y": F32})}
    assert findings(CASCADE, other) == [
        ("stages[0].heavy.inputs.a", "column 'x' is float32[3], the model's input is float32"),
        ("stages[0].heavy.outputs.y", "declared as float32[2], the model gives float32"),
    ]
    assert findings(CASCADE, {"small": MODELS["small"]}) == [
        ("stages[0].heavy.name", "there is no model 'large'; known: small")
    ]


def test_types_that_the_document_leaves_open_come_from_the_signatures() -> None:
    text = (
        CASCADE.replace("out: {column: p, type: float32, shape: [2]}", "out: p")
        .replace("y: {column: p, type: float32, shape: [2]}", "y: p")
        .replace("outputs: [p]", "outputs: [name]")
    )
    assert findings(text, MODELS) == []
    single = {n: ModelSignature(s.inputs, dict.fromkeys(s.outputs, F32)) for n, s in MODELS.items()}
    assert findings(text, single) == [
        ("stages[0].element", "column 'p' is float32; its elements are counted from 0")
    ]
    mixed = {**MODELS, "large": single["large"]}
    assert findings(text, mixed) == [
        ("stages[0].heavy.outputs", "column 'p' is float32, the light model's is float32[2]")
    ]


def test_a_valuable_column_is_a_number() -> None:
    text = CASCADE.replace("valuable: {amount: 1000}", "valuable: {name: 1}")
    assert findings(text, MODELS) == [
        ("stages[0].valuable.name", "column 'name' is string, not a number per row")
    ]


def test_an_ensemble_is_compared_with_its_members() -> None:
    models = {
        "small": ModelSignature({"in": F32}, {"out": F32}),
        "large": ModelSignature({"a": F32, "b": F32}, {"y": F32}),
    }
    assert findings(ENSEMBLE, models) == []
    other = {**models, "large": ModelSignature({"a": F32, "b": F32, "c": F32}, {"y": PAIR})}
    assert findings(ENSEMBLE, other) == [
        ("stages[0].members.second.inputs", "the model needs its input 'c' too"),
        ("stages[0].members.second.output", "declared as float32, the model gives float32[2]"),
    ]
    open_type = ENSEMBLE.replace("into: {column: p, type: float32}", "into: p").replace("[p]", "[x]")
    assert findings(open_type, models) == []
    assert findings(open_type, {**models, "large": ModelSignature({"a": F32, "b": F32}, {"y": PAIR})}) == [
        ("stages[0].members.second.output", "is float32[2], that of another member is float32")
    ]
    votes = open_type.replace("combine: mean", "combine: vote")
    assert findings(votes, models) == [
        ("stages[0].into", "is float32; votes are for one whole number or bool per row")
    ]


def test_what_they_write_can_be_any_value_of_its_type() -> None:
    for text in (CASCADE, ENSEMBLE):
        pipeline = parse(text, "p.yaml")
        [stage] = pipeline.stages
        assert kind_of(stage).flow(stage, {}, {}).get("p") == Values(DType.FLOAT32)


def test_a_release_pins_both_models_of_a_cascade_and_its_threshold() -> None:
    stage = cascade()
    kind = kind_of(stage)
    assert kind.models(stage) == {"small": "", "large": "4"}
    pinned = kind.pinned(stage, {"small": "2", "large": "5", "other": "1"}, {"threshold": 0.25})
    assert kind.models(pinned) == {"small": "2", "large": "5"}
    assert pinned.unsure == Unsure("p", 0.25, 0.3, 1)
    assert kind.pinned(stage, {}, {}) == stage
    for settings in ({"treshold": 0.2}, {"threshold": -1}, {"threshold": "0.2"}, {"threshold": True}):
        with pytest.raises(SettingError) as error:
            kind.pinned(stage, {}, settings)
        assert error.value.setting in settings


def test_a_release_pins_members_and_sets_quorum_and_weights() -> None:
    stage = ensemble()
    kind = kind_of(stage)
    assert kind.models(stage) == {"small": "", "large": "3"}
    pinned = kind.pinned(stage, {"large": "9"}, {"quorum": 1, "weight.second": 5})
    assert kind.models(pinned) == {"small": "", "large": "9"}
    assert pinned.quorum == 1
    assert [m.weight for m in pinned.members.values()] == [2.0, 5.0]
    for settings in (
        {"weight.third": 1},
        {"weight.first": 0},
        {"quorum": 3},
        {"quorum": 1.5},
        {"threshold": 1},
    ):
        with pytest.raises(SettingError) as error:
            kind.pinned(stage, {}, settings)
        assert error.value.setting in settings


def test_margins() -> None:
    scores = np.array([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]], np.float32)
    assert Unsure("p", 0.1).margins(scores).tolist() == pytest.approx([0.8, 0.0, 0.6])
    assert Unsure("p", 0.1, 0.3, 1).margins(scores).tolist() == pytest.approx([0.6, 0.2, 0.1])
    assert Unsure("p", 0.15, 0.3, 1).rows(scores).tolist() == [False, False, True]
    assert Unsure("p", 0.5, 0.3).margins(np.array([0.4], np.float32)).tolist() == pytest.approx([0.1])
    assert Unsure("p", 0.0, 0.3).rows(np.array([0.3, np.nan], np.float32)).tolist() == [False, True]
    three = np.array([[1.0, 5.0, 4.0]])
    assert Unsure("p", 0.1).margins(three).tolist() == [1.0]


def test_stages_without_models_stay_as_they_are() -> None:
    for stage in parsed().stages:
        if not isinstance(stage, ModelStage):
            assert kind_of(stage).models(stage) == {}
            assert kind_of(stage).pinned(stage, {"scorer": "9"}, {}) is stage


def test_a_release_decides_the_version_of_a_model() -> None:
    [stage] = [s for s in parsed().stages if isinstance(s, ModelStage)]
    kind = kind_of(stage)
    assert kind.models(stage) == {"scorer": "7"}
    assert kind.pinned(stage, {"scorer": "9", "other": "1"}, {}) == replace(stage, version="9")
    assert stage.version == "7"
    assert kind.pinned(stage, {"other": "1"}, {}) == stage


def test_a_setting_that_the_stage_does_not_have_is_named() -> None:
    for stage in parsed().stages:
        with pytest.raises(SettingError) as error:
            kind_of(stage).pinned(stage, {}, {"threshold": 0.1})
        assert (error.value.stage, error.value.setting) == (stage.name, "threshold")
        assert f"a {stage.kind} stage has no settings" in str(error.value)
