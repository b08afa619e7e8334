"""ProgramCache: how they are read, that a row's result does not depend on the rows beside it; whole numbers stay whole."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Column, DType
from headrace.columns.column import join
from headrace.hop.errors import Code, Reason
from headrace.steps import Frame, Options, Result, SpecError, compile_steps, registry, spec_json, spec_sha256

FLIGHTS: dict[str, Any] = {
    "steps": [
        {"impute": {"columns": {"seats": 149, "tail": "none"}}},
        {"clip": {"column": "seats", "low": 0, "high": 400}},
        {"log1p": {"column": "delay"}},
        {"scale": {"columns": {"seats": {"mean": 137, "std": 70}, "delay": {"min": 0, "max": 5}}}},
        {"one_hot": {"column": "carrier", "vocabulary": ["UA", "DL"], "into": "carrier_hot"}},
        {"join_text": {"columns": ["carrier", "tail"], "into": "plane"}},
        {"hash": {"column": "plane", "buckets": 64, "into": "plane_bucket"}},
        {"cyclic": {"column": "hour", "period": 24}},
        {
            "assemble": {
                "columns": ["seats", "delay", "carrier_hot", "plane_bucket", "hour_sin", "hour_cos"],
                "into": "input",
            }
        },
    ],
    "outputs": {"input": {"type": "float32", "shape": [7]}, "plane": "string"},
}


def changed(**keys: Any) -> dict[str, Any]:
    return {"steps": [{"clip": {"column": "x", "low": 0, "into": "y"}}], "outputs": {"y": "float64"}, **keys}


def test_a_program_tells_what_it_reads_and_makes() -> None:
    program = compile_steps("preprocessing", FLIGHTS)
    assert program.reads == ("seats", "tail", "delay", "carrier", "hour")
    assert {"input", "plane", "hour_sin"} <= set(program.writes)
    assert program.writes["input"] is DType.FLOAT32


def test_one_meaning_has_one_hash() -> None:
    assert spec_json({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()
    assert spec_sha256(changed()) == spec_sha256(dict(reversed(changed().items())))
    with pytest.raises(ValueError):
        spec_json({"a": float("nan")})


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (changed(steps=[]), "steps"),
        (changed(more=1), "more"),
        (changed(steps=[{"clip": {}, "cast": {}}]), "steps[0]"),
        (changed(steps=[{"clipp": {"column": "x"}}]), "steps[0].clipp"),
        (changed(steps=[{"clip": {"column": "x", "low": "a"}}]), "steps[0].clip.low"),
        (changed(steps=[{"clip": {"column": "x", "low": 1, "hihg": 2}}]), "steps[0].clip.hihg"),
        (changed(steps=[{"clip": {"low": 1}}]), "steps[0].clip"),
        (changed(steps=[{"clip": {"columns": ["x", "@x"], "low": 1}}]), "steps[0].clip.columns[1]"),
        (changed(steps=[{"impute": {"columns": {"x": []}}}]), "steps[0].impute.columns.x"),
        (
            changed(steps=[{"scale": {"columns": {"x": {"mean": 0, "std": 0}}}}]),
            "steps[0].scale.columns.x.std",
        ),
        (changed(steps=[{"bucketize": {"column": "x", "edges": [2, 1]}}]), "steps[0].bucketize.edges"),
        (
            changed(steps=[{"ordinal": {"column": "x", "vocabulary": ["a", "a"]}}]),
            "steps[0].ordinal.vocabulary[1]",
        ),
        (changed(outputs={}), "outputs"),
        (changed(outputs={"z": "float64"}), "outputs.z"),
        (changed(outputs={"y": "int32"}), "outputs.y"),
        (changed(outputs={"y": {"type": "float64", "shape": [0]}}), "outputs.y.shape"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(spec: Mapping[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_steps("preprocessing", spec)
    assert caught.value.path == path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "column", "y", "mask"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["column", "columns", "into", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(kind=st.sampled_from(["preprocessing", "postprocessing"]), data=st.data())
def test_no_specification_crashes_the_compiler(kind: registry.Kind, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(registry.names(kind)))
    keys = [
        "column",
        "columns",
        "into",
        "vocabulary",
        "low",
        "edges",
        "parts",
        "index",
        "labels",
        "k",
        "type",
        "method",
        "value",
    ]
    options = data.draw(st.dictionaries(st.sampled_from(keys), JSON, max_size=5) | JSON)
    with suppress(SpecError):
        compile_steps(kind, {"steps": [{name: options}], "outputs": {"y": "float64"}})


def columns_of(rows: list[Any]) -> dict[str, Column]:
    seats = [r[0] for r in rows]
    valid = np.array([s is not None for s in seats], bool)
    return {
        "seats": Column.of("seats", np.array([s or 0 for s in seats], np.int32), valid),
        "tail": Column.of_text("tail", [r[1] for r in rows]),
        "delay": Column.of("delay", np.array([r[2] for r in rows], np.float64)),
        "carrier": Column.of_text("carrier", [r[3] for r in rows]),
        "hour": Column.of("hour", np.array([r[4] for r in rows], np.int32)),
    }


ROW = st.tuples(
    st.none() | st.integers(-1000, 1000),
    st.none() | st.text(max_size=3),
    st.floats(width=64),
    st.none() | st.sampled_from(["UA", "DL", "ZZ"]),
    st.integers(0, 23),
)


def same(whole: Result, parts: list[Result], sizes: list[int]) -> None:
    start, errors = 0, {}
    for part, size in zip(parts, sizes, strict=True):
        errors.update({start + row: error for row, error in part.errors.items()})
        start += size
    assert errors == whole.errors
    for name, column in whole.columns.items():
        joined = join([p.columns[name] for p in parts])
        if column.dtype is DType.BYTES:
            assert joined.text() == column.text()
        else:
            assert joined.array.tobytes() == column.array.tobytes()
            assert joined.is_valid().tolist() == column.is_valid().tolist()


@given(rows=st.lists(ROW, min_size=1, max_size=40), cuts=st.sets(st.integers(1, 39)))
def test_any_split_of_a_batch_gives_the_same_bits(rows: list[Any], cuts: set[int]) -> None:
    program = compile_steps("preprocessing", FLIGHTS)
    columns = columns_of(rows)
    bounds = [0, *sorted(c for c in cuts if c < len(rows)), len(rows)]
    spans = list(pairwise(bounds))
    parts = [program.run({n: c.slice(a, b) for n, c in columns.items()}, b - a) for a, b in spans]
    same(program.run(columns, len(rows)), parts, [b - a for a, b in spans])


def test_no_rows_give_no_rows() -> None:
    result = compile_steps("preprocessing", FLIGHTS).run(columns_of([]), 0)
    assert {n: len(c) for n, c in result.columns.items()} == {"input": 0, "plane": 0}


@dataclass
class Custom:
    """A user's step: what `work` makes of the float64 numbers of `x`."""

    work: Callable[[Any], Any]
    reads: tuple[str, ...] = ("x",)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {"y": DType.FLOAT64}

    def run(self, frame: Frame) -> None:
        frame.put("y", self.work(frame.numbers("x")[0]))


def no_thirteen(values: Any) -> Any:
    if (values == 13).any():
        raise ZeroDivisionError("a bug")
    return values


def read_custom(options: Options) -> Custom:
    work = options.choice("work", ["no_thirteen", "short"])
    return Custom({"no_thirteen": no_thirteen, "short": lambda x: x[:-1]}[work])


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    entry = EntryPoint("custom", f"{__name__}:read_custom", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: EntryPoints([entry]))
    return lambda work: {"steps": [{"custom": {"work": work}}], "outputs": {"y": "float64"}}


def test_an_exception_fails_only_the_rows_to_blame(custom: Callable[[str], dict[str, Any]]) -> None:
    values = np.arange(100.0)
    result = compile_steps("preprocessing", custom("no_thirteen")).run({"x": Column.of("x", values)}, 100)

    assert {r: (e.code, e.reason) for r, e in result.errors.items()} == {
        13: (Code.INTERNAL, Reason.REASON_STEP_FAILED)
    }
    assert "a bug" not in result.errors[13].message
    assert [f.step for f in result.failures] == ["steps[0].custom"]
    kept = np.delete(np.arange(100), 13)
    assert result.columns["y"].array[kept].tolist() == values[kept].tolist()


def test_a_step_that_always_fails_is_not_tried_for_each_row(custom: Callable[[str], dict[str, Any]]) -> None:
    result = compile_steps("preprocessing", custom("no_thirteen")).run(
        {"x": Column.of("x", np.full(5000, 13.0))}, 5000
    )
    assert len(result.errors) == 5000
    assert len(result.failures) <= 64


def test_a_broken_promise_fails_the_rows(custom: Callable[[str], dict[str, Any]]) -> None:
    result = compile_steps("postprocessing", custom("short")).run({"x": Column.of("x", np.arange(3.0))}, 3)
    assert {e.reason for e in result.errors.values()} == {Reason.REASON_STEP_FAILED}
    assert (len(result.errors), len(result.columns["y"])) == (3, 3)


ODD = (1 << 24) + 1  # float32 has none such
LARGE = (1 << 53) + 1  # neither has float64


def run(step: dict[str, Any], outputs: dict[str, Any], **columns: Column) -> Result:
    program = compile_steps("preprocessing", {"steps": [step], "outputs": outputs})
    return program.run({name: c.renamed(name) for name, c in columns.items()}, 2)


def numbers(kind: str, *values: Any) -> Column:
    return Column.of("", np.array(values, kind))


@pytest.mark.parametrize(
    ("left", "right", "made"),
    [("int32", "int32", "int32"), ("int32", "int64", "int64"), ("uint8", "int16", "int16")],
)
def test_integer_columns_make_an_integer_tensor(left: str, right: str, made: str) -> None:
    low, high = np.iinfo(left).max - 1, np.iinfo(right).max
    result = run(
        {"assemble": {"columns": ["a", "b"], "into": "t"}},
        {"t": {"type": made, "shape": [2]}},
        a=numbers(left, low, 1),
        b=numbers(right, high, 2),
    )
    assert result.errors == {}
    assert result.columns["t"].dtype.name.lower() == made
    assert result.columns["t"].array.tolist() == [[low, high], [1, 2]]


def test_whole_numbers_never_pass_through_a_float() -> None:
    result = run(
        {"assemble": {"columns": ["a", "v"], "into": "t"}},
        {"t": {"type": "int64", "shape": [3]}},
        a=numbers("int64", LARGE, -LARGE),
        v=numbers("int64", [ODD, 1], [LARGE, 2]),
    )
    assert result.columns["t"].array.tolist() == [[LARGE, ODD, 1], [-LARGE, LARGE, 2]]


def test_a_tensor_of_a_wanted_type_refuses_rows_that_do_not_fit_it() -> None:
    result = run(
        {"assemble": {"columns": ["a", "x"], "into": "t", "type": "int16"}},
        {"t": {"type": "int16", "shape": [2]}},
        a=numbers("int32", 1 << 15, 7),
        x=numbers("float64", 1.0, 0.5),
    )
    assert {row: (e.reason, e.metadata["field"]) for row, e in result.errors.items()} == {
        0: (Reason.REASON_INPUT_RANGE, "a"),
        1: (Reason.REASON_INPUT_RANGE, "x"),
    }


def test_columns_that_are_not_all_integers_make_float32_as_before() -> None:
    columns = {"a": numbers("int32", 1, 2), "x": numbers("float32", 0.5, 1)}
    step = {"assemble": {"columns": ["a", "x"], "into": "t"}}
    result = run(step, {"t": {"type": "float32", "shape": [2]}}, **columns)
    assert result.columns["t"].array.tolist() == [[1, 0.5], [2, 1]]
