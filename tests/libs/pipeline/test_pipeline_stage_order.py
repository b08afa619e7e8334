"""Which stage waits for which."""

import pytest

from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature, Problem, ViewSignature, check, plan
from tests.libs.pipeline.pipeline_documents import SMALL, changed, line_of, parsed, problems


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
FEATURES = {"person": ViewSignature({"age": DType.FLOAT64})}


def test_check_passes_what_fits() -> None:
    assert check(parsed(), {"scorer": SIGNATURE}, FEATURES) == []
    assert check(parsed(), None, None) == []


def test_check_names_what_does_not_fit() -> None:
    wide = ModelSignature(
        {"x": ColumnType(DType.FLOAT32, (4,)), "extra": ColumnType(DType.BOOL)},
        {"y": ColumnType(DType.FLOAT64)},
    )
    found = check(parsed(), {"scorer": wide}, {"person": ViewSignature({"age": DType.FLOAT32})})
    told = [(p.key, p.message) for p in found]
    assert told == [
        ("stages[0].views.person.features.age", "declared as float64, the registry says float32"),
        ("stages[2].inputs.x", "column 'input' is float32[3], the model's input is float32[4]"),
        ("stages[2].inputs", "the model needs its input 'extra' too"),
        ("stages[2].outputs.y", "declared as float32, the model gives float64"),
    ]
    assert [p.line for p in found][1] == line_of("inputs: {x")


def test_check_suggests_names() -> None:
    found = check(parsed(), {"scorers": SIGNATURE}, {"persons": FEATURES["person"]})
    assert ["did you mean" in p.message for p in found] == [True, True]
    inside = ModelSignature({"xs": ColumnType(DType.FLOAT32, (3,))}, {"z": ColumnType(DType.FLOAT32)})
    ages = {"person": ViewSignature({"ages": DType.FLOAT64})}
    keys = [p.key for p in check(parsed(), {"scorer": inside}, ages)]
    assert keys == [
        "stages[0].views.person.features.age",
        "stages[2].inputs.x",
        "stages[2].inputs",
        "stages[2].outputs.y",
    ]


HOUR_US = 3_600_000_000


def checked_features(new: str, real: ViewSignature) -> list[Problem]:
    """What is wrong with the document once `on_missing: refuse` of its view is something else."""
    return check(parsed(changed(("on_missing: refuse}", new))), None, {"person": real})


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ("max_age: 2h", ""),
        ("max_age: 1h, stale: 1h", ""),
        ("max_age: 121m", "max_age"),
        ("max_age: 1h, stale: 61m", "stale"),
    ],
)
def test_check_refuses_ages_beyond_the_time_to_live(rule: str, key: str) -> None:
    real = ViewSignature({"age": DType.FLOAT64}, ttl_us=2 * HOUR_US)
    found = checked_features(f"freshness: {{{rule}}}}}", real)
    assert [p.key for p in found] == ([f"stages[0].views.person.freshness.{key}"] if key else [])
    assert all("lives for 2h" in p.message for p in found)
    for_ever = ViewSignature({"age": DType.FLOAT64})
    assert checked_features(f"freshness: {{{rule}}}}}", for_ever) == []


def test_a_stage_waits_for_what_its_on_demand_views_take() -> None:
    sent = changed(("entities: [name]", "entities: [name]\n    request: [size]"))
    assert plan(parsed(sent)).stages[0].reads == ("name", "size")
    unknown = changed(("entities: [name]", "entities: [name]\n    request: [sizes]"))
    (problem,) = problems(unknown)
    assert (problem.key, problem.line) == ("stages[0].request[0]", line_of("request:", unknown))
    assert "did you mean 'size'?" in problem.message


def test_check_wants_on_demand_views_to_get_what_they_take() -> None:
    real = {"person": ViewSignature({"age": DType.FLOAT64}, request={"size": DType.FLOAT64})}
    sent = changed(("entities: [name]", "entities: [name]\n    request: [size]"))
    assert check(parsed(sent), None, real) == []
    (missing,) = check(parsed(), None, real)
    assert (missing.key, "`request: [size]`" in missing.message) == ("stages[0].request", True)
    (useless,) = check(parsed(sent), None, FEATURES)
    assert (useless.key, "no view of this stage takes 'size'" in useless.message) == (
        "stages[0].request[0]",
        True,
    )
    text = {"person": ViewSignature({"age": DType.FLOAT64}, request={"size": DType.BYTES})}
    (unfit,) = check(parsed(sent), None, text)
    assert unfit.message == "column 'size' is int32, the on-demand view 'person' takes bytes"
