"""Documents: what they mean, and that every mistake is named with its line."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from headrace.pipeline import (
    ColumnType,
    DocumentError,
    FeaturesStage,
    Freshness,
    ModelStage,
    StepsStage,
    load,
    load_folder,
    parse,
)
from tests.libs.pipeline.pipeline_documents import SMALL, changed, complaints, line_of, parsed, problems


def test_a_document_says_what_it_says() -> None:
    pipeline = parsed()
    assert (pipeline.name, pipeline.version, pipeline.deadline_ms) == ("small", 2, 250)
    name, size, weight, vector, blob = pipeline.inputs
    assert (name.dtype, name.text, name.max_bytes, name.choices) == (DType.BYTES, True, 8, (b"ann", b"bob"))
    assert (size.dtype, size.range, size.required) == (DType.INT32, (1, 9), True)
    assert (weight.default, weight.required) == (1.5, False)
    assert (vector.dtype, vector.row_shape, vector.required) == (DType.FLOAT64, (2, 2), False)
    assert (blob.text, blob.pii) == (False, True)
    store, prepare, score, finish = pipeline.stages
    assert isinstance(store, FeaturesStage)
    assert (store.feature_service, store.entities) == ("people", ("name",))
    assert store.views["person"].features == {"age": DType.FLOAT64}
    assert store.views["person"].on_missing == "refuse"
    assert isinstance(prepare, StepsStage)
    assert set(prepare.reads) == {"size", "weight", "age"}
    assert prepare.outputs == {"input": ColumnType(DType.FLOAT32, (3,))}
    assert isinstance(score, ModelStage)
    assert (score.model, score.version, score.inputs) == ("scorer", "7", {"x": "input"})
    assert isinstance(finish, StepsStage)
    assert finish.kind == "postprocessing"
    outputs = {o.name: (o.dtype, o.type.text) for o in pipeline.outputs}
    assert outputs == {
        "yes_or_no": (DType.BOOL, False),
        "probability": (DType.FLOAT32, False),
        "name": (DType.BYTES, True),
    }


def test_the_revision_tells_meaning_not_layout() -> None:
    one = parsed()
    assert parsed(SMALL + "\n# a comment\n").revision == one.revision
    moved = changed(("version: 2\n", ""), ("deadline_ms: 250\n", "deadline_ms: 250\nversion: 2\n"))
    assert parsed(moved).revision == one.revision
    assert parsed(changed(("range: [1, 9]", "range: [1, 8]"))).revision != one.revision
    assert len(one.revision) == 64
    steps = [s for s in one.stages if isinstance(s, StepsStage)]
    assert steps[1].spec_json == (
        b'{"outputs":{"yes_or_no":{"type":"bool"}},'
        b'"steps":[{"threshold":{"at":0.5,"column":"probability","into":"yes_or_no"}}]}'
    )


def test_a_views_freshness_is_part_of_what_a_document_says() -> None:
    def rule(keys: str) -> Freshness | None:
        stage = parsed(changed(("on_missing: refuse", keys))).stages[0]
        assert isinstance(stage, FeaturesStage)
        return stage.views["person"].freshness

    assert rule("on_missing: refuse") is None
    hour = 3_600_000_000
    assert rule("freshness: {max_age: 3h, stale: 30m}") == Freshness(3 * hour, hour // 2, "default")
    assert rule("on_missing: refuse, freshness: {max_age: 1d}") == Freshness(24 * hour, 0, "refuse")
    assert rule("freshness: {max_age: 1h30m, otherwise: refuse}") == Freshness(hour * 3 // 2, 0, "refuse")
    one, two = (changed(("on_missing: refuse", f"freshness: {{max_age: {age}}}")) for age in ("1h", "2h"))
    assert parsed(one).revision != parsed(two).revision


def test_all_mistakes_are_told_at_once_each_with_its_line() -> None:
    text = changed(
        ("deadline_ms: 250", "deadline_ms: soon"),
        ("max_bytes: 8", "max_byts: 8"),
        ("type: int32", "type: int23"),
        ("feature_service: people", "feature_servce: people"),
        ("threshold:", "treshold:"),
    )
    found = complaints(text)
    assert [f.split(":")[:2] for f in found] == [
        [str(line_of("deadline_ms")), " deadline_ms"],
        [str(line_of("name:")), " inputs.name.max_byts"],
        [str(line_of("size:")), " inputs.size.type"],
        [str(line_of("features: store")), " stages[0]"],
        [str(line_of("feature_service")), " stages[0].feature_servce"],
        [str(line_of("threshold")), " stages[3].steps[0].treshold"],
    ]
    assert "did you mean 'max_bytes'?" in found[1]
    assert "did you mean 'int32'?" in found[2]
    assert "needs the key 'feature_service'" in found[3]


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("version: 2", "version: two", "version: two", "should be an integer"),
        ("version: 2", "version: 2\nversion: 3", "version: 2", "used twice"),
        ("range: [1, 9]", "range: [9, 1]", "size:", "is empty"),
        ("range: [1, 9]", "range: [1]", "size:", "[lowest, highest]"),
        ("max_bytes: 4", "range: [0, 1]", "blob:", "means nothing for a bytes"),
        ("default: 1.5", "default: heavy", "weight:", "should be a number"),
        ("default: 1.5", "default: 1.5, required: true", "weight:", "can't be required"),
        ("choices: [ann, bob]", "choices: [1, bob]", "name:", "should be text, is 1"),
        ("shape: [2, 2]", "shape: [2, 0]", "vector:", "from 1 to"),
        ("on_missing: refuse", "on_missing: refusing", "person:", "did you mean 'refuse'?"),
        ("entities: [name]", "entities: [nam]", "entities:", "did you mean 'name'?"),
        ("entities: [name]", "entities: [name]\n    request: [name]", "request:", "is sent already"),
        ("on_missing: refuse", "freshness: {max_age: 3}", "person:", "with its unit, such as 90s"),
        ("on_missing: refuse", "freshness: {max_age: 3 hours}", "person:", "with its unit, such as 90s"),
        ("on_missing: refuse", "freshness: {max_age: 0s}", "person:", "should be from 1ms to 36500d, is 0s"),
        ("on_missing: refuse", "freshness: {stale: 3h}", "person:", "needs the key 'max_age'"),
        ("on_missing: refuse", "freshness: {max_agee: 3h}", "person:", "did you mean 'max_age'?"),
        ("on_missing: refuse", "freshness: {max_age: 3h, otherwise: refusing}", "person:", "did you mean 'refuse'?"),
        ("inputs: {x: input}", "inputs: {x: inptu}", "inputs: {x", "did you mean 'input'?"),
        ("column: probability, type", "column: size, type", "outputs: {y", "already an input"),
        ("outputs: [yes", "outputs: [maybe, yes", "outputs: [", "no stage writes 'maybe'"),
        ("outputs: [yes_or_no, probability", "outputs: [name", "outputs: [name", "listed twice"),
        ("outputs: {y: {column: probability, type: float32}}", "outputs: {y: probability}", "outputs: [", "must say"),
        ("- model: score", "- modl: score", "- modl", "did you mean 'model'?"),
        ("- model: score", "- model: finish", "- postp", "two stages are named 'finish'"),
        ("- model: score", "- model: 1st", "- model", "is no name"),
        ("pipeline: small", "pipeline: &a small", "pipeline", ""),
        ("pipeline: small", "pipeline: [small", "version", ""),
        ("at: 0.5", "at: .inf", "threshold", "finite"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_is(old: str, new: str, at: str, message: str) -> None:
    text = changed((old, new))
    found = complaints(text)
    if not message:
        return
    assert any(f.startswith(f"{line_of(at, text)}: ") and message in f for f in found), found


def test_yaml_1_1_does_not_bite() -> None:
    text = changed(
        ("choices: [ann, bob]", "choices: [NO, on, 12:30, 2020-01-01]"), ("default: 1.5", "default: 1e-3")
    )
    pipeline = parsed(text)
    assert pipeline.inputs[0].choices == (b"NO", b"on", b"12:30", b"2020-01-01")
    assert pipeline.inputs[2].default == 0.001


def test_aliases_are_refused() -> None:
    (found,) = complaints("a: &x [1]\nb: *x\n")
    assert found.startswith("2: (syntax): aliases")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- 1", "mapping"),
        ("a: b: c", "mapping values"),
        ("[" * 500, ""),
    ],
)
def test_what_is_no_document_is_told_in_its_first_line(text: str, message: str) -> None:
    assert all(p.line == 1 and message in p.message for p in problems(text))
    assert problems(text)


def test_a_circle_is_told() -> None:
    text = changed(("entities: [name]", "entities: [probability]"))
    found = complaints(text)
    assert len(found) == 3
    assert all("waits for itself" in f for f in found)


def test_too_many_views_are_refused() -> None:
    views = ", ".join(f"v{i}: {{features: {{f{i}: float64}}}}" for i in range(17))
    text = changed(
        ("views:\n      person: {features: {age: float64}, on_missing: refuse}", f"views: {{{views}}}")
    )
    assert any("more than 16 feature views" in f for f in complaints(text))


@given(st.text(max_size=200))
def test_any_text_is_a_pipeline_or_an_error_with_a_line(text: str) -> None:
    with contextlib.suppress(DocumentError):
        parse(text, "any.yaml")


@given(st.data())
def test_a_document_with_a_piece_replaced_never_crashes_the_parser(data: st.DataObject) -> None:
    lines = SMALL.splitlines()
    i = data.draw(st.integers(0, len(lines) - 1))
    junk = [
        "",
        "[]",
        "{}",
        "null",
        "7",
        "x: {",
        "? a",
        "- b",
        "*a",
        "!!python/object:os.system x",
        "a: [1, {b: c}]",
    ]
    lines[i] = data.draw(
        st.sampled_from(junk).map(lambda j: " " * (len(lines[i]) - len(lines[i].lstrip())) + j)
    )
    found = problems("\n".join(lines))
    assert all(p.file == "small.yaml" and 1 <= p.line <= len(lines) + 1 for p in found)


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="can't be read"):
        load(tmp_path / "pipeline.yaml")


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "circle", "huge", "binary", "bomb", "wide"])
def test_nothing_in_the_place_of_a_document_holds_the_reader_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipeline.yaml"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "circle":
            path.symlink_to(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(100 << 20)
        case "binary":
            path.write_bytes(b"pipeline: \xff\xfe")
        case "bomb":
            levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30)]
            path.write_text("l0: &l0 [x]\n" + "\n".join(levels))
        case "wide":
            path.write_text("pipeline: [" + "1," * 500_000 + "1]")
    with pytest.raises(DocumentError) as refused:
        load(path)
    assert all(len(str(p)) < 2000 for p in refused.value.problems)


def test_two_pipelines_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pipeline.yaml").write_text(SMALL)
    with pytest.raises(DocumentError, match="is the name of"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("version", "good"), [("0", False), ("1", True), ("9007199254740991", True), ("9007199254740992", False)]
)
def test_a_version_is_a_whole_number_from_1_to_what_json_holds_exactly(version: str, good: bool) -> None:
    found = [p.key for p in problems(SMALL.replace("version: 2", f"version: {version}"))]
    assert found == ([] if good else ["version"])


def test_a_document_may_say_that_its_predictions_are_regulated() -> None:
    assert not parsed().regulated
    assert parse(SMALL + "regulated: true\n", "p.yaml").regulated
    [told] = complaints(SMALL + "regulated: often\n")
    assert "regulated" in told
