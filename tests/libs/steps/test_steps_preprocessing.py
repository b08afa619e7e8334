"""Each preprocessing step, on values that are there, absent and wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from headrace.columns import Column
from headrace.hop.errors import Code, Fault, Reason
from headrace.steps import Result, compile_steps


def run(step: Mapping[str, Any], outputs: Mapping[str, Any], *columns: Column) -> Result:
    program = compile_steps("preprocessing", {"steps": [step], "outputs": outputs})
    return program.run({c.name: c for c in columns}, len(columns[0]))


def floats(name: str, *values: float | None) -> Column:
    valid = np.array([v is not None for v in values])
    return Column.of(name, np.array([v or 0 for v in values], float), None if valid.all() else valid)


def ints(name: str, *values: int) -> Column:
    return Column.of(name, np.array(values, np.int32))


def text(name: str, *values: str | None) -> Column:
    return Column.of_text(name, values)


def test_impute_fills_absent_and_nan() -> None:
    step = {"impute": {"columns": {"x": 7.5, "t": "none"}}}
    result = run(
        step, {"x": "float64", "t": "string"}, floats("x", 1, None, np.nan), text("t", "a", None, "")
    )

    assert result.columns["x"].array.tolist() == [1, 7.5, 7.5]
    assert result.columns["x"].valid is None
    assert result.columns["t"].text() == ["a", "none", ""]


@pytest.mark.parametrize(("constant", "dtype"), [(5, "int32"), (5.5, "float64"), (1 << 40, "float64")])
def test_impute_keeps_an_integer_type_that_holds_the_constant(constant: float, dtype: str) -> None:
    column = Column.of("n", np.array([1, 0], np.int32), np.array([True, False]))
    result = run({"impute": {"columns": {"n": constant}}}, {"n": dtype}, column)
    assert (result.errors, result.columns["n"].array.tolist()) == ({}, [1, constant])


def test_the_type_of_what_is_imputed_does_not_depend_on_the_rows() -> None:
    program = compile_steps(
        "preprocessing", {"steps": [{"impute": {"columns": {"n": 0.5}}}], "outputs": {"n": "float64"}}
    )
    for valid in (None, np.array([True]), np.array([False])):
        column = Column.of("n", np.array([3], np.int32), valid)
        assert program.run({"n": column}, 1).errors == {}


CARRIERS, CHARACTERS = text("x", "UA", "DL", "UA"), text("x", "éa", "")


@pytest.mark.parametrize(
    ("step", "options", "column", "dtype", "wanted"),
    [
        ("clip", {"column": "x", "low": 0, "high": 2}, floats("x", -1, 1, 9), "float32", [0, 1, 2]),
        ("rescale", {"columns": ["x"], "factor": 2, "offset": 1}, floats("x", 3), "float64", [7]),
        ("round", {"column": "x", "decimals": 1}, floats("x", 0.26), "float64", [0.3]),
        ("bucketize", {"column": "x", "edges": [0, 10]}, floats("x", -1, 0, 9.9, 10), "int64", [0, 1, 1, 2]),
        ("hash", {"column": "x", "buckets": 1000}, CARRIERS, "int64", [803, 5, 803]),
        ("ordinal", {"column": "x", "vocabulary": ["DL"], "unknown": 9}, CARRIERS, "int64", [9, 0, 9]),
        ("ordinal", {"column": "x", "vocabulary": ["a", "b"], "unknown": 9}, text("x", "b", None), "int64", [1, 9]),
        ("length", {"column": "x", "into": "x", "unit": "characters"}, CHARACTERS, "int32", [2, 0]),
        ("length", {"column": "x", "into": "x", "unit": "bytes"}, CHARACTERS, "int32", [3, 0]),
        ("const", {"into": "x", "value": True}, ints("other", 1), "bool", [True]),
        ("const", {"into": "x", "value": 3}, ints("other", 1), "int32", [3]),
        ("const", {"into": "x", "value": 0.5}, ints("other", 1), "float32", [0.5]),
    ],
)  # fmt: skip
def test_one_column_to_another(
    step: str, options: Mapping[str, Any], column: Column, dtype: str, wanted: list[float]
) -> None:
    assert run({step: options}, {"x": dtype}, column).columns["x"].array.tolist() == wanted


def test_scale_by_column_or_by_vector() -> None:
    step = {"scale": {"columns": {"x": {"mean": 2, "std": 4}, "v": {"min": [0, 10], "max": [2, 20]}}}}
    vector = Column.of("v", np.array([[1, 15], [2, 10]], np.float32))
    result = run(step, {"x": "float64", "v": {"type": "float64", "shape": [2]}}, floats("x", 2, 6), vector)

    assert result.columns["x"].array.tolist() == [0, 1]
    assert result.columns["v"].array.tolist() == [[0.5, 0.5], [1, 0]]


def test_log1p_refuses_only_the_rows_without_a_logarithm() -> None:
    column = Column.of("x", np.array([np.e - 1, -3, -3]), np.array([True, True, False]))
    result = run({"log1p": {"column": "x"}}, {"x": "float64"}, column)

    assert result.columns["x"].array[0] == pytest.approx(1)
    assert {r: (e.code, e.reason, dict(e.metadata)) for r, e in result.errors.items()} == {
        1: (Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, {"field": "x"})
    }


def test_one_hot_of_texts_and_integers() -> None:
    step = {"one_hot": {"column": "c", "vocabulary": ["UA", "DL"], "into": "hot"}}
    result = run(step, {"hot": {"type": "float32", "shape": [2]}}, text("c", "DL", "XX", None, "UA"))
    assert result.columns["hot"].array.tolist() == [[0, 1], [0, 0], [0, 0], [1, 0]]
    assert (dict(result.unseen), result.errors) == ({("one_hot", "c"): 1}, {})

    result = run(
        {"one_hot": {"column": "c", "vocabulary": [3, 1], "into": "hot"}},
        {"hot": {"type": "float32", "shape": [2]}},
        ints("c", 1, 3),
    )
    assert result.columns["hot"].array.tolist() == [[0, 1], [1, 0]]


def test_unknown_and_absent_categories_fail_their_rows_if_asked() -> None:
    step = {"ordinal": {"column": "c", "vocabulary": ["a"], "unknown": "error", "into": "n"}}
    result = run(step, {"n": "int64"}, text("c", "a", "b", None))
    reasons = {r: e.reason for r, e in result.errors.items()}
    assert reasons == {1: Reason.REASON_INPUT_RANGE, 2: Reason.REASON_INPUT_MISSING}


def test_date_parts_of_text_and_of_seconds() -> None:
    parts = ["year", "month", "day", "hour", "minute", "day_of_week", "day_of_year", "weekend"]
    outputs = {f"t_{p}": "int64" for p in parts}
    wanted = [2024, 2, 29, 23, 59, 3, 60, 0]
    step = {"date_parts": {"column": "t", "parts": parts}}
    iso = run(step, outputs, text("t", "2024-02-29T23:59:30Z", "2024-03-01T01:59:30.5+02:00"))
    seconds = run(step, outputs, floats("t", 1709251170.0, 1709251170.5))

    for result in (iso, seconds):
        assert result.errors == {}
        assert [result.columns[f"t_{p}"].array.tolist() for p in parts] == [[w, w] for w in wanted]


def test_dates_that_are_none_fail_their_rows() -> None:
    step = {"date_parts": {"column": "t", "parts": ["hour"]}}
    result = run(step, {"t_hour": "int64"}, text("t", "yesterday", "1969-12-31T23:00", None))
    assert result.columns["t_hour"].array[1] == 23
    assert list(result.errors) == [0]
    assert list(run(step, {"t_hour": "int64"}, floats("t", np.nan, 1e300, -np.inf, 0)).errors) == [0, 1, 2]


def test_cyclic_closes_the_circle() -> None:
    step = {"cyclic": {"column": "hour", "period": 24}}
    result = run(step, {"hour_sin": "float32", "hour_cos": "float32"}, ints("hour", 0, 6, 24))
    np.testing.assert_allclose(result.columns["hour_sin"].array, [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(result.columns["hour_cos"].array, [1, 0, 1], atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "values", "wanted", "failed"),
    [
        ("int8", [1.9, -1.9, 128, -129, np.nan], [1, -1], [2, 3, 4]),
        ("uint64", [0, 2.0**63, 2.0**64, -1], [0, 1 << 63], [2, 3]),
        ("int64", [-(2.0**63), 0, 2.0**63], [-(1 << 63), 0], [2]),
        ("int64", [(1 << 63) - 1, -(1 << 63)], [(1 << 63) - 1, -(1 << 63)], []),  # of int64 already
        ("bool", [0, 2], [False, True], []),
        ("float32", [0.5, np.nan], [0.5], []),
    ],
)
def test_cast(dtype: str, values: list[float], wanted: list[float], failed: list[int]) -> None:
    result = run({"cast": {"column": "x", "type": dtype}}, {"x": dtype}, Column.of("x", np.array(values)))
    assert result.columns["x"].array.tolist()[: len(wanted)] == wanted
    assert list(result.errors) == failed


def test_texts_are_joined_or_constant() -> None:
    step: dict[str, Any] = {"join_text": {"columns": ["a", "b"], "separator": "|", "into": "key"}}
    joined = run(step, {"key": "string"}, text("a", "x", None), text("b", "y", "z"))
    assert joined.columns["key"].text() == ["x|y", None]
    step = {"const": {"into": "c", "value": "a"}}
    assert run(step, {"c": "string"}, ints("x", 1)).columns["c"].text() == ["a"]


def test_assemble_lays_columns_flat_in_order() -> None:
    step = {"assemble": {"columns": ["v", "b", "x"], "into": "input"}}
    vector, flags = Column.of("v", np.array([[1, 2], [3, 4]])), Column.of("b", np.array([True, False]))
    result = run(step, {"input": {"type": "float32", "shape": [4]}}, vector, flags, floats("x", 0.5, -1))
    assert result.columns["input"].array.dtype == np.float32
    assert result.columns["input"].array.tolist() == [[1, 2, 1, 0.5], [3, 4, 0, -1]]


def test_assemble_names_what_a_row_lacks() -> None:
    step = {"assemble": {"columns": ["x", "y"], "into": "input"}}
    result = run(
        step,
        {"input": {"type": "float32", "shape": [2]}},
        floats("x", 1, None, 1, 1),
        floats("y", 1, 1, np.nan, 1e300),
    )
    assert {r: (e.reason, e.metadata["field"]) for r, e in result.errors.items()} == {
        1: (Reason.REASON_INPUT_MISSING, "x"),
        2: (Reason.REASON_INPUT_RANGE, "y"),
        3: (Reason.REASON_INPUT_RANGE, "y"),
    }


@pytest.mark.parametrize(
    ("operation", "wanted"), [("add", [7, 4]), ("subtract", [5, 4]), ("multiply", [6, 0]), ("ratio", [6, -1])]
)
def test_arithmetic(operation: str, wanted: list[float]) -> None:
    options = {"left": "x", "right": "y", "into": "z"} | ({"otherwise": -1} if operation == "ratio" else {})
    result = run({operation: options}, {"z": "float64"}, floats("x", 6, 4), floats("y", 1, 0))
    assert result.columns["z"].array.tolist() == wanted


def test_absence_is_carried_through_and_can_be_a_feature() -> None:
    result = run({"clip": {"column": "x", "low": 1}}, {"x": "float64"}, floats("x", 0, None))
    assert result.columns["x"].is_valid().tolist() == [True, False]
    result = run({"is_missing": {"column": "x", "into": "m"}}, {"m": "bool"}, floats("x", 0, None, np.nan))
    assert result.columns["m"].array.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (text("x", "a"), Reason.REASON_INPUT_DTYPE),
        (Column.of("other", np.zeros(1)), Reason.REASON_INPUT_MISSING),
    ],
)
def test_a_column_that_cannot_be_used_fails_the_call(column: Column, reason: int) -> None:
    with pytest.raises(Fault) as caught:
        run({"clip": {"column": "x", "low": 1}}, {"x": "float64"}, column)
    assert (caught.value.code, caught.value.reason) == (Code.INVALID_ARGUMENT, reason)
    assert caught.value.metadata["field"] == "x"
