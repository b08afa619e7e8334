"""Figures of columns: each value in its bin, what is no value by what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.drift.counting import CategoryColumn, CategoryFigures, NumberColumn, NumberFigures, count
from headrace.drift.values import Values

COLUMN = NumberColumn("x", edges=(1.0, 2.0, 5.0), low=0.0, high=9.0)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([0.5, 1.0, 1.5, 2.0, 9.5, -1.0]), NumberFigures(6, 0, 0, 2, (2, 2, 1, 1))),
        ([None, float("nan"), float("inf"), 3.0, "text"], NumberFigures(5, 1, 3, 0, (0, 0, 1, 0))),
        (np.ma.masked_array([1.0, 2.0], [True, False]), NumberFigures(2, 1, 0, 0, (0, 0, 1, 0))),
        (np.array([True, False]), NumberFigures(2, 0, 0, 0, (1, 1, 0, 0))),
    ],
)
def test_numbers_fall_into_bins(values: Values, found: NumberFigures) -> None:
    assert count(COLUMN, values, len(values)) == found


def test_an_absent_column_is_null_in_every_row() -> None:
    assert count(COLUMN, None, 3) == NumberFigures(3, 3, 0, 0, (0, 0, 0, 0))
    assert count(CategoryColumn("c", ("a",)), None, 3) == CategoryFigures(3, 3, (0,), 0, ())


def test_texts_outside_the_vocabulary_are_unseen_and_the_most_frequent_named() -> None:
    values = ["a", b"b", None, "z", "z", b"\xff", 7]
    found = count(CategoryColumn("c", ("a", "b")), values, len(values))
    assert found == CategoryFigures(7, 1, (1, 1), 4, (("z", 2), ("7", 1), ("\ufffd", 1)))


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.sets(st.floats(-100, 100), max_size=8))
def test_every_row_is_counted_once(values: list[float], edges: set[float]) -> None:
    found = count(NumberColumn("x", tuple(sorted(edges))), np.array(values), len(values))
    assert isinstance(found, NumberFigures)
    assert sum(found.bins) == found.values == found.rows - found.nulls - found.non_finite
