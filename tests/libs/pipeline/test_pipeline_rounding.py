"""Outputs that are rounded: what the document says, and what leaves."""

import numpy as np
import pytest

from headrace.columns import Batch, Column, Rows
from headrace.pipeline import rounded, rounds, rows_from_batch
from tests.libs.pipeline.pipeline_documents import changed, complaints, parsed

ROUNDED = changed(("probability, name]", "{column: probability, round: 2}, name]"))


def batch(*numbers: float, dtype: str = "float32") -> Batch:
    column = Column.of("probability", np.array(numbers, dtype))
    other = Column.of("@age_us/x", np.array(numbers, dtype))
    rows = Rows.one_request(len(numbers), "r", "t", 1e9, 1, "")
    return Batch(rows, {"probability": column, "@age_us/x": other})


def test_only_what_the_document_names_is_rounded() -> None:
    plain, pipeline = parsed(), parsed(ROUNDED)
    assert [o.digits for o in pipeline.outputs] == [None, 2, None]
    assert (rounds(plain), rounds(pipeline)) == (False, True)
    assert plain.revision != pipeline.revision
    numbers = (0.123456, 0.999, -0.005, 12345.678, float("nan"), float("inf"), 3e38)
    done = rounded(pipeline, batch(*numbers))
    wanted = np.array([0.12, 1.0, -0.0, 12345.68, float("nan"), float("inf"), 3e38], np.float32)
    np.testing.assert_array_equal(done.columns["probability"].array, wanted)
    np.testing.assert_array_equal(done.columns["@age_us/x"].array, np.array(numbers, np.float32))
    assert rounded(plain, batch(*numbers)).columns["probability"].array[0] == np.float32(0.123456)


def test_rows_as_objects_show_the_digits_and_no_more() -> None:
    pipeline = parsed(ROUNDED)
    shown = rows_from_batch(pipeline, rounded(pipeline, batch(0.123456, 0.7)))
    assert [row["probability"] for row in shown] == [0.12, 0.7]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("{column: probability, round: 16}", "should be an integer from 0 to 15"),
        ("{column: probability, digits: 2}", "unknown key"),
        ("{round: 2}", "needs the key 'column'"),
        ("{column: yes_or_no, round: 2}", "only floating-point numbers are rounded"),
        ("{column: yes_or_no, range: [0, 1]}", "only numbers have a range"),
        ("{column: probability, range: [1, 0]}", "is empty: 1 is above 0"),
    ],
)
def test_what_can_not_be_rounded(output: str, said: str) -> None:
    found = complaints(changed(("[yes_or_no, probability, name]", f"[name, {output}]")))
    assert any("outputs[1]" in line and said in line for line in found), found
