"""What the door accepts of a request, and what it says of the rest."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, DType, Rows
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import batch_from_rows, rows_from_batch, validate_inputs
from tests.libs.pipeline.pipeline_documents import parsed, with_inputs

SMALL = parsed()


def rows(count: int) -> Rows:
    return Rows.one_request(count, "r", "t", 1e9)


def good(count: int) -> Batch:
    return Batch.of(
        rows(count), [Column.of_text("name", ["ann"] * count), Column.of("size", np.full(count, 3, np.int32))]
    )


def refused(batch: Batch) -> Fault:
    with pytest.raises(Fault) as error:
        validate_inputs(SMALL, batch)
    assert error.value.code is Code.INVALID_ARGUMENT
    return error.value


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_what_is_left_out_becomes_its_default_or_null(count: int) -> None:
    batch = validate_inputs(SMALL, good(count))
    assert not batch.errors
    assert set(batch.columns) == {"name", "size", "weight", "vector", "blob"}
    assert batch.columns["weight"].array.tolist() == [1.5] * count
    assert batch.columns["weight"].valid is None
    vector = batch.columns["vector"]
    assert (vector.array.shape, vector.dtype) == ((count, 2, 2), DType.FLOAT64)
    assert vector.is_valid().tolist() == [False] * count
    assert batch.columns["blob"].is_valid().tolist() == [False] * count
    assert len(batch.columns["blob"]) == count


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    fault = refused(good(1).with_columns([Column.of("weigth", np.zeros(1, np.float32))]))
    assert fault.reason == Reason.REASON_INPUT_UNKNOWN
    assert "did you mean 'weight'?" in fault.message
    assert fault.metadata["known"] == "blob,name,size,vector,weight"


def test_an_annotation_is_no_input() -> None:
    fault = refused(good(1).with_columns([Column.of("@source/person", np.ones(1, np.uint8))]))
    assert fault.reason == Reason.REASON_INPUT_UNKNOWN


def test_a_required_column_must_be_there() -> None:
    fault = refused(good(1).select(["name"]))
    assert (fault.reason, fault.metadata["input"]) == (Reason.REASON_INPUT_MISSING, "size")


def test_type_and_shape_must_be_the_declared_ones() -> None:
    fault = refused(good(1).with_columns([Column.of("size", np.ones(1, np.int64))]))
    assert fault.reason == Reason.REASON_INPUT_DTYPE
    assert fault.metadata == {"input": "size", "expected": "int32", "got": "int64"}
    fault = refused(good(1).with_columns([Column.of("vector", np.ones((1, 4)))]))
    assert fault.reason == Reason.REASON_INPUT_SHAPE
    assert fault.metadata["got"] == "float64[4]"


@pytest.mark.parametrize("count", [3, 50])
def test_a_bad_value_fails_its_row_alone(count: int) -> None:
    sizes = np.full(count, 3, np.int32)
    sizes[1] = 10
    names = ["ann"] * count
    names[2] = "eve"
    batch = Batch.of(rows(count), [Column.of_text("name", names), Column.of("size", sizes)])
    errors = validate_inputs(SMALL, batch).errors
    assert set(errors) == {1, 2}
    assert errors[1].reason == errors[2].reason == Reason.REASON_INPUT_RANGE
    assert errors[1].message == "input size, row 1: is 10, outside 1 to 9"
    assert errors[1].metadata == {"input": "size", "row": "1", "allowed": "1 to 9"}
    assert errors[2].message == "input name, row 2: is 'eve', not one of ann, bob"


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused(count: int, value: float) -> None:
    vector = np.zeros((count, 2, 2))
    vector[count - 1, 1, 0] = value
    errors = validate_inputs(SMALL, good(count).with_columns([Column.of("vector", vector)])).errors
    assert set(errors) == {count - 1}
    assert errors[count - 1].reason == Reason.REASON_INPUT_RANGE
    assert errors[count - 1].metadata["element"] == "2"


@pytest.mark.filterwarnings("error")
def test_the_largest_number_of_a_small_type_is_finite() -> None:
    pipeline = with_inputs(["v: float32"])
    values = np.full(20, np.finfo(np.float32).max)
    assert not validate_inputs(pipeline, Batch(rows(20), {"v": Column.of("v", values)})).errors


@pytest.mark.parametrize("count", [1, 20])
def test_nan_passes_where_it_is_allowed_and_the_range_still_holds(count: int) -> None:
    pipeline = with_inputs(["v: {type: float32, allow_nan: true, range: [0, 1]}"])
    values = np.full(count, np.nan, np.float32)
    assert not validate_inputs(pipeline, Batch.of(rows(count), [Column.of("v", values)])).errors
    values[0] = 2
    assert set(validate_inputs(pipeline, Batch.of(rows(count), [Column.of("v", values)])).errors) == {0}


def test_long_values_and_bad_text_are_refused() -> None:
    pipeline = with_inputs(["t: {type: string, max_bytes: 4}", "b: bytes"])
    items = [b"abcd", b"abcde", b"\xff", "é".encode(), b""]
    batch = Batch.of(rows(5), [Column.of_bytes("t", items), Column.of_bytes("b", items)])
    errors = validate_inputs(pipeline, batch).errors
    assert {row: e.reason for row, e in errors.items()} == {
        1: Reason.REASON_INPUT_SHAPE,
        2: Reason.REASON_INPUT_DTYPE,
    }
    assert errors[1].metadata["limit"] == "4"


def test_a_null_is_missing_default_or_null() -> None:
    mask = np.array([True, False])
    batch = Batch.of(
        rows(2),
        [
            Column.of_text("name", ["ann", "bob"]),
            Column.of("size", np.array([3, 0], np.int32), mask),
            Column.of("weight", np.array([2.0, 0.0], np.float32), mask),
            Column.of_bytes("blob", [None, b"abcde"]),
        ],
    )
    checked = validate_inputs(SMALL, batch)
    # Row 1 lacks its size; what stands there (0, out of range) is not looked at.
    assert checked.errors[1].reason == Reason.REASON_INPUT_MISSING
    assert checked.columns["weight"].array.tolist() == [2.0, 1.5]
    assert checked.columns["weight"].valid is None
    assert checked.columns["blob"].is_valid().tolist() == [False, True]


def test_personal_data_stays_out_of_errors() -> None:
    pipeline = with_inputs(
        ["a: {type: int32, range: [0, 9], pii: true}", "s: {type: string, choices: [x], pii: true}"]
    )
    batch = Batch.of(
        rows(2), [Column.of("a", np.array([77, 1], np.int32)), Column.of_text("s", ["x", "secret"])]
    )
    errors = validate_inputs(pipeline, batch).errors
    assert "77" not in str(errors[0])
    assert "secret" not in str(errors[1])
    coerced = batch_from_rows(pipeline, [{"a": "secret"}], rows(1))
    assert "secret" not in str(coerced.errors[0])


def test_a_bool_is_0_or_1() -> None:
    pipeline = with_inputs(["b: bool"])
    values = np.frombuffer(bytes([0, 1, 2]), np.bool_)
    errors = validate_inputs(pipeline, Batch.of(rows(3), [Column.of("b", values)])).errors
    assert set(errors) == {2}


def test_a_row_that_failed_before_keeps_its_error() -> None:
    batch = batch_from_rows(SMALL, [{"name": "ann", "size": "many"}], rows(1))
    errors = validate_inputs(SMALL, batch).errors
    assert errors[0].reason == Reason.REASON_INPUT_DTYPE


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.integers(-5, 0), st.integers(0, 5))
def test_few_and_many_rows_are_judged_alike(values: list[int], low: int, high: int) -> None:
    pipeline = with_inputs(
        [f"v: {{type: int16, range: [{low}, {high}]}}", f"c: {{type: int16, choices: [7, {low}, 3]}}"]
    )
    array = np.array(values, np.int16)
    batch = Batch.of(rows(len(values)), [Column.of("v", array), Column.of("c", array)])
    expected = {i for i, v in enumerate(values) if not low <= v <= high or v not in (7, low, 3)}
    assert set(validate_inputs(pipeline, batch).errors) == expected


def test_rows_become_columns_of_the_declared_types() -> None:
    batch = batch_from_rows(
        SMALL,
        [
            {"name": "ann", "size": 3.0, "vector": [[1, 2], [3, 4.5]], "blob": "AQI="},
            {"name": "bob", "size": 4, "weight": 2, "vector": None},
        ],
        rows(2),
    )
    assert not batch.errors
    assert batch.columns["name"].text() == ["ann", "bob"]
    assert batch.columns["size"].array.dtype == np.int32
    assert batch.columns["size"].array.tolist() == [3, 4]
    assert batch.columns["vector"].array[0].tolist() == [[1, 2], [3, 4.5]]
    assert batch.columns["vector"].is_valid().tolist() == [True, False]
    assert batch.columns["blob"].ragged.to_list() == [b"\x01\x02", b""]
    assert batch.columns["weight"].is_valid().tolist() == [False, True]
    checked = validate_inputs(SMALL, batch)
    assert not checked.errors
    assert checked.columns["weight"].array.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("row", "reason", "part"),
    [
        ({"size": 3.5}, Reason.REASON_INPUT_DTYPE, "should be an integer (int32), is 3.5"),
        ({"size": True}, Reason.REASON_INPUT_DTYPE, "should be an integer"),
        ({"size": 1 << 40}, Reason.REASON_INPUT_DTYPE, "does not fit int32"),
        ({"name": 7}, Reason.REASON_INPUT_DTYPE, "should be text, is 7"),
        ({"name": {"a": 1}}, Reason.REASON_INPUT_DTYPE, "should be text, is an object"),
        ({"blob": "not base64!"}, Reason.REASON_INPUT_DTYPE, "does not fit bytes"),
        ({"vector": [[1, 2]]}, Reason.REASON_INPUT_SHAPE, "shape [2, 2]"),
        ({"vector": 1}, Reason.REASON_INPUT_SHAPE, "shape [2, 2]"),
        ({"vector": [[1, "a"], [1, 2]]}, Reason.REASON_INPUT_DTYPE, "should be a number, is 'a'"),
        ({"sise": 3}, Reason.REASON_INPUT_UNKNOWN, "did you mean 'size'?"),
    ],
)
def test_a_value_that_does_not_fit_fails_its_row(row: dict[str, object], reason: Reason, part: str) -> None:
    batch = batch_from_rows(SMALL, [{"name": "ann", "size": 3}, {"name": "ann", "size": 3} | row], rows(2))
    assert set(batch.errors) == {1}
    error = batch.errors[1]
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason)
    assert part in error.message
    assert error.metadata["row"] == "1"


def test_64_bit_integers_may_come_as_text() -> None:
    pipeline = with_inputs(["n: int64"])
    batch = batch_from_rows(pipeline, [{"n": "-9223372036854775808"}, {"n": "1e3"}], rows(2))
    assert batch.columns["n"].array.tolist() == [-(1 << 63), 0]
    assert set(batch.errors) == {1}


def test_outputs_become_rows() -> None:
    pipeline = parsed(
        """\
pipeline: p
version: 1
deadline_ms: 9
inputs:
  s: string
  b: bytes
  v: {type: float32, shape: [2]}
  n: {type: int32, required: false}
stages: [{model: m, name: m, inputs: {x: s}, outputs: {y: y}}]
outputs: [s, b, v, n]
"""
    )
    batch = Batch.of(
        rows(2),
        [
            Column.of_text("s", ["é", "b"]),
            Column.of_bytes("b", [b"\x01\x02", b""]),
            Column.of("v", np.array([[1.5, np.nan], [np.inf, 2]], np.float32)),
            Column.of("n", np.array([4, 0], np.int32), np.array([True, False])),
        ],
    )
    assert rows_from_batch(pipeline, batch) == [
        {"s": "é", "b": "AQI=", "v": [1.5, None], "n": 4},
        {"s": "b", "b": "", "v": [None, 2.0], "n": None},
    ]
    given_rows: list[dict[str, object]] = [{"s": 1}, {"s": "x", "b": "", "v": [0, 0]}]
    checked = validate_inputs(pipeline, batch_from_rows(pipeline, given_rows, rows(2)))
    assert rows_from_batch(pipeline, checked) == [{}, {"s": "x", "b": "", "v": [0.0, 0.0], "n": None}]
