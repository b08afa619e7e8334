"""Base rows, and the rows of coalitions made of them."""

from typing import Any

import numpy as np
import pytest

from headrace.columns import Column, DType
from headrace.drift import Baseline, Choices, baseline_of
from headrace.explanations import ExplanationError, Player, base_row, coalition_columns, one_row, values_of
from headrace.pipeline import ColumnType

FLOAT, INT, TEXT = ColumnType(DType.FLOAT64), ColumnType(DType.INT32), ColumnType(DType.BYTES, (), True)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "age": random.normal(40, 10, 960),
        "hour": np.repeat(np.arange(24), 40).astype(float),
        "carrier": ["UA"] * 400 + ["AA"] * 160 + ["B6"] * 400,
    }
    return baseline_of(columns, Choices(made_from="a test"))


def test_takes_the_median_and_the_most_frequent_text(baseline: Baseline) -> None:
    players = [Player("age", FLOAT, True), Player("hour", INT, False), Player("carrier", TEXT, False)]
    found = base_row(players, {}, baseline)
    assert found.sources == {"age": "baseline", "hour": "baseline", "carrier": "baseline"}
    assert found.columns["age"].array[0] == pytest.approx(40, abs=2)
    assert found.columns["hour"].array[0] in (11, 12)
    assert found.columns["carrier"].text() == ["B6"]


def test_the_document_goes_before_the_baseline_and_defaults_follow(baseline: Baseline) -> None:
    players = [Player("age", FLOAT, True), Player("n", INT, False, 7), Player("score", FLOAT, True)]
    found = base_row(players, {"age": 18.0}, baseline)
    assert found.sources == {"age": "document", "n": "default", "score": "null"}
    assert found.columns["age"].array.tolist() == [18.0]
    assert found.columns["n"].array.tolist() == [7]
    assert found.columns["score"].is_valid().tolist() == [False]


def test_a_column_without_any_value_is_named() -> None:
    with pytest.raises(ExplanationError, match="no value for 'age'") as caught:
        base_row([Player("age", FLOAT, False)], {}, None)
    assert (caught.value.cause, caught.value.column) == ("base", "age")


def test_a_baseline_of_another_type_is_not_used(baseline: Baseline) -> None:
    found = base_row([Player("age", TEXT, True), Player("carrier", FLOAT, True)], {}, baseline)
    assert set(found.sources.values()) == {"null"}


def test_rows_mix_both_with_their_nulls() -> None:
    rows = [
        {"x": Column.of("x", np.array([x])), "name": Column.of_text("name", [n])}
        for x, n in [(2.5, "Ann"), (7.0, "Eve")]
    ]
    base = {"x": one_row("x", FLOAT, None), "name": one_row("name", TEXT, b"Bo")}
    places = np.array([[0, 0], [1, 0], [0, 1], [2, 2]])
    x, name = coalition_columns(values_of(["x", "name"], rows, base), places)
    assert x.is_valid().tolist() == [False, True, False, True]
    assert x.array[[1, 3]].tolist() == [2.5, 7]
    assert name.text() == ["Bo", "Bo", "Ann", "Eve"]
    # Several elements are one player.
    kind = ColumnType(DType.FLOAT32, (3,))
    vector = {"v": Column.of("v", np.array([[1, 2, 3]], np.float32))}
    values = values_of(["v"], [vector], {"v": one_row("v", kind, 0.0)})
    [found] = coalition_columns(values, np.array([[0], [1]]))
    assert found.array.tolist() == [[0, 0, 0], [1, 2, 3]]
