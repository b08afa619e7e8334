"""Whether a model's probabilities are what they say, as its baseline keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.drift import BaselineError, Choices, baseline_of, parse
from headrace.drift.calibration import calibration_of

RNG = np.random.default_rng(5)
P = RNG.beta(2, 5, size=20_000)


@pytest.mark.parametrize(("said", "low", "high", "holds"), [(P, 0.0, 0.02, True), (P / 2, 0.1, 0.2, False)])
def test_the_error_is_what_probabilities_are_off_by(said: Any, low: float, high: float, holds: bool) -> None:
    found = calibration_of("p", said, RNG.random(20_000) < P)
    assert low <= found.error <= high
    assert found.holds is holds


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans())))
def test_the_error_is_a_share_of_any_data(rows: list[tuple[float, bool]]) -> None:
    said, came = np.array([p for p, _ in rows]), np.array([y for _, y in rows], bool)
    found = calibration_of("p", said, came)
    assert 0 <= found.error <= 1
    assert not found.holds, "so few rows say nothing"


def test_it_is_kept_in_the_document_and_the_truth_is_not() -> None:
    data = {"x": RNG.normal(size=20_000), "p": P, "came": (RNG.random(20_000) < P).astype(int)}
    made = baseline_of(data, Choices(calibration=("p", "came")))
    assert list(made.columns) == ["x", "p"]
    again = parse(made.to_bytes())
    assert again == made
    assert again.calibration is not None
    assert (again.calibration.probability, again.calibration.rows, again.calibration.holds) == (
        "p",
        20_000,
        True,
    )
    assert parse(baseline_of({"x": P}, Choices()).to_bytes()).calibration is None


def test_rows_without_a_probability_or_a_truth_are_left_out() -> None:
    said = np.ma.MaskedArray([0.5, 0.5, 0.5], [True, False, False])
    made = baseline_of({"p": said, "y": [1.0, None, 0.0]}, Choices(calibration=("p", "y")))
    assert made.calibration is not None
    assert (made.calibration.rows, made.calibration.error) == (1, 0.5)


@pytest.mark.parametrize(
    ("data", "column"),
    [
        ({"p": [0.5], "x": [1.0]}, "y"),
        ({"p": [0.5], "y": [2.0]}, "y"),
        ({"p": [1.5], "y": [1.0]}, "p"),
        ({"p": ["a"], "y": [1.0]}, "p"),
        ({"p": [0.5], "y": ["yes"]}, "y"),
    ],
)
def test_columns_that_are_no_probability_and_truth_are_named(data: dict[str, Any], column: str) -> None:
    with pytest.raises(BaselineError) as refused:
        baseline_of(data, Choices(calibration=("p", "y")))
    assert refused.value.column == column


def test_a_document_that_names_no_column_of_it_is_refused() -> None:
    content = baseline_of({"x": P}, Choices()).to_bytes()
    broken = content.replace(
        b'"columns"', b'"calibration": {"probability": "q", "error": 0.1, "rows": 9}, "columns"'
    )
    with pytest.raises(BaselineError, match=r"calibration\.probability: 'q'"):
        parse(broken)
