"""Which stage waits for which."""

from __future__ import annotations

from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature, check, plan
from tests.libs.pipeline.pipeline_documents import SMALL, changed, line_of, parsed


def test_stages_wait_for_the_columns_that_they_read() -> None:
    stages = plan(parsed()).stages
    assert [(s.stage.name, s.after, s.before) for s in stages] == [
        ("store", (), (1,)),
        ("prepare", (0,), (2,)),
        ("score", (1,), (3,)),
        ("finish", (2,), ()),
    ]
    assert stages[0].reads == ("name",)
    assert stages[0].writes == {"age": ColumnType(DType.FLOAT64)}


def test_the_order_in_the_document_does_not_matter() -> None:
    head, rest = SMALL.split("stages:\n")
    stages, outputs = rest.split("outputs: [yes")
    parts = ["  - " + p for p in stages.split("\n  - ")]
    parts[0] = parts[0].replace("  -   - ", "  - ")
    backwards = (
        head + "stages:\n" + "\n".join(p.rstrip("\n") for p in reversed(parts)) + "\noutputs: [yes" + outputs
    )
    stages_backwards = plan(parsed(backwards)).stages
    assert [(s.stage.name, s.after) for s in stages_backwards] == [
        ("finish", (1,)),
        ("score", (2,)),
        ("prepare", (3,)),
        ("store", ()),
    ]


def test_stages_that_share_nothing_do_not_wait() -> None:
    text = changed(
        (
            "  - postprocessing",
            "  - model: other\n    name: o\n    inputs: {x: input}\n    outputs: {y: z}\n  - postprocessing",
        )
    )
    stages = plan(parsed(text)).stages
    assert [s.stage.name for s in stages if s.after == (1,)] == ["score", "other"]
    assert stages[1].before == (2, 3)


SIGNATURE = ModelSignature({"x": ColumnType(DType.FLOAT32, (3,))}, {"y": ColumnType(DType.FLOAT32)})
FEATURES = {"person": {"age": DType.FLOAT64}}


def test_check_passes_what_fits() -> None:
    assert check(parsed(), {"scorer": SIGNATURE}, FEATURES) == []
    assert check(parsed(), None, None) == []


def test_check_names_what_does_not_fit() -> None:
    wide = ModelSignature(
        {"x": ColumnType(DType.FLOAT32, (4,)), "extra": ColumnType(DType.BOOL)},
        {"y": ColumnType(DType.FLOAT64)},
    )
    found = check(parsed(), {"scorer": wide}, {"person": {"age": DType.FLOAT32}})
    told = [(p.key, p.message) for p in found]
    assert told == [
        ("stages[0].views.person.features.age", "declared as float64, the registry says float32"),
        ("stages[2].inputs.x", "column 'input' is float32[3], the model's input is float32[4]"),
        ("stages[2].inputs", "the model needs its input 'extra' too"),
        ("stages[2].outputs.y", "declared as float32, the model gives float64"),
    ]
    assert [p.line for p in found][1] == line_of("inputs: {x")


def test_check_suggests_names() -> None:
    found = check(parsed(), {"scorers": SIGNATURE}, {"persons": {"age": DType.FLOAT64}})
    assert ["did you mean" in p.message for p in found] == [True, True]
    inside = ModelSignature({"xs": ColumnType(DType.FLOAT32, (3,))}, {"z": ColumnType(DType.FLOAT32)})
    keys = [p.key for p in check(parsed(), {"scorer": inside}, {"person": {"ages": DType.FLOAT64}})]
    assert keys == [
        "stages[0].views.person.features.age",
        "stages[2].inputs.x",
        "stages[2].inputs",
        "stages[2].outputs.y",
    ]
