"""Whole numbers come out of the steps as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.columns import Column
from headrace.hop.errors import Reason
from headrace.steps import Result, compile_steps

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


def test_the_ends_of_64_bits_can_be_cast() -> None:
    ends = (np.iinfo("int64").max, np.iinfo("int64").min)
    result = run({"cast": {"columns": ["n"], "type": "int64"}}, {"n": "int64"}, n=numbers("int64", *ends))
    assert (result.errors, tuple(result.columns["n"].array.tolist())) == ({}, ends)
