"""Values of requests and documents as elements of a type, what is said of those that do not fit; quick checks; durations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from headrace.columns.column import Column, Ragged
from headrace.pipeline.document.durations import duration_text, parse_duration
from headrace.pipeline.problems import Source, suggestion
from headrace.pipeline.requests.validation import BytesCheck
from headrace.pipeline.spec import InputField
from headrace.pipeline.types import scalar

INTEGERS = {
    DType.INT8: (-128, 127),
    DType.UINT8: (0, 255),
    DType.INT16: (-32768, 32767),
    DType.UINT16: (0, 65535),
    DType.INT32: (-(2**31), 2**31 - 1),
    DType.UINT32: (0, 2**32 - 1),
    DType.INT64: (-(2**63), 2**63 - 1),
    DType.UINT64: (0, 2**64 - 1),
}


@pytest.mark.parametrize(("dtype", "bounds"), INTEGERS.items(), ids=lambda v: getattr(v, "name", ""))
def test_integers_fit_up_to_their_bounds(dtype: DType, bounds: tuple[int, int]) -> None:
    low, high = bounds
    assert (scalar(dtype, False, low), scalar(dtype, False, high)) == bounds
    for outside in (low - 1, high + 1):
        with pytest.raises(
            ValueError, match=rf"{outside} does not fit {dtype.name.lower()} \({low} to {high}\)"
        ):
            scalar(dtype, False, outside)


def test_an_integer_may_come_as_an_integral_number() -> None:
    assert scalar(DType.INT32, False, 3.0) == 3
    assert scalar(DType.INT32, False, np.int8(3)) == 3
    for wrong in (3.5, True, None, "3", [3]):
        with pytest.raises(ValueError, match="should be an integer"):
            scalar(DType.INT32, False, wrong)


def test_decimal_text_fits_the_types_that_json_has_no_number_for() -> None:
    assert scalar(DType.INT64, False, "-9007199254740993") == -9007199254740993
    assert scalar(DType.INT64, False, 2.0**53 - 1) == 2**53 - 1
    for rounded in (2.0**53, -(2.0**53), np.float64(2.0**60)):
        with pytest.raises(ValueError, match="as text"):
            scalar(DType.INT64, False, rounded)
    assert scalar(DType.UINT64, False, "18446744073709551615") == 2**64 - 1
    for wrong in ("3.5", "", "1e3", " 3"):
        with pytest.raises(ValueError, match="should be an integer"):
            scalar(DType.INT64, False, wrong)


def test_truth_values_and_numbers_are_not_taken_for_each_other() -> None:
    assert scalar(DType.BOOL, False, True) is True
    assert scalar(DType.BOOL, False, np.bool_(False)) is False
    for wrong in (1, 0.0, "true", None):
        with pytest.raises(ValueError, match="should be true or false"):
            scalar(DType.BOOL, False, wrong)
    assert scalar(DType.FLOAT32, False, 2) == 2.0
    for wrong in (True, "2", None):
        with pytest.raises(ValueError, match="should be a number"):
            scalar(DType.FLOAT32, False, wrong)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": 1}, "is an object"),
        ([1], "is a list"),
        ("x" * 38, f"is '{'x' * 38}'"),
        ("x" * 39, f"is '{'x' * 36}…"),
    ],
)
def test_a_wrong_value_is_shown_in_few_characters(value: object, shown: str) -> None:
    with pytest.raises(ValueError, match="should be a number") as error:
        scalar(DType.FLOAT32, False, value)
    assert str(error.value).endswith(shown)


def test_a_problem_is_at_the_nearest_line_that_is_known() -> None:
    source = Source("p.yaml", {"stages": 4, "stages[0]": 5})
    assert source.problem("stages[0].entities[1]", "m").line == 5
    assert source.problem("stages[1].name", "m").line == 4
    assert source.problem("outputs", "m").line == 1


def test_a_near_name_is_suggested_and_few_names_are_listed() -> None:
    assert suggestion("flihgts", ["flights", "moderation"]) == "; did you mean 'flights'?"
    assert suggestion("zzz", ["flights", "moderation"]) == "; known: flights, moderation"
    assert suggestion("zzz", []) == ""


SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h", 10800),
        ("90m", 5400),
        ("1d12h", 129600),
        ("1h30m15s", 5415),
        ("500ms", 0.5),
        ("2m5ms", 120.005),
        ("0s", 0),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds * SECOND_US


@pytest.mark.parametrize(
    "text", ["", "3", "h", "3 h", "-3h", "1.5h", "3hours", "30m1h", "1h1h", "3H", "1h ", "٣h"]
)
def test_what_lacks_a_unit_or_is_out_of_order_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(1, 10**15))
def test_a_text_tells_the_two_longest_parts(milliseconds: int) -> None:
    us = milliseconds * 1000
    told = parse_duration(duration_text(us))
    assert told is not None
    assert told <= us
    # What is left out is less than the shorter of two units that follow each other, of which 60 s : 1000 ms is the widest.
    assert us - told < us / 24


ITEMS = st.lists(st.sampled_from([b"", b"a", b"ab", b"abc", b"\xc3\xa9", b"\xff", b"\xc3"]), max_size=6)


def column(items: list[bytes], before: bytes, after: bytes) -> Column:
    whole = Ragged.of([before, *items, after])
    return Column("f", DType.BYTES, Ragged(whole.offsets[1:-1], whole.data))


def is_wrong(item: bytes, field: InputField) -> bool:
    if field.max_bytes is not None and len(item) > field.max_bytes:
        return True
    if field.choices is not None and item not in field.choices:
        return True
    if field.text:
        try:
            item.decode()
        except UnicodeDecodeError:
            return True
    return False


@given(
    ITEMS,
    st.sampled_from([b"", b"\xff\xff", b"long before it"]),
    st.booleans(),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, (b"a", b"abc")]),
)
def test_byte_strings(
    items: list[bytes], around: bytes, text: bool, max_bytes: int | None, choices: tuple[bytes, ...] | None
) -> None:
    field = InputField("f", DType.BYTES, text=text, max_bytes=max_bytes, choices=choices)
    found = BytesCheck(field).wrong(column(items, around, around))
    assert list(found) == [i for i, item in enumerate(items) if is_wrong(item, field)]
