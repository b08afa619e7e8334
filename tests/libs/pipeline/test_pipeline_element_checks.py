"""The quick checks of byte strings find what a look at each of them finds, wherever the strings lie in their buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from headrace.columns.column import Column, Ragged
from headrace.pipeline.requests.validation import BytesCheck, ChoiceCheck, check_for
from headrace.pipeline.spec import InputField

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
    found = check_for(field).wrong(column(items, around, around))
    assert list(found) == [i for i, item in enumerate(items) if is_wrong(item, field)]


@pytest.mark.parametrize(
    ("field", "checked"),
    [
        (InputField("f", DType.BYTES), False),
        (InputField("f", DType.BYTES, text=True), True),
        (InputField("f", DType.BYTES, max_bytes=1), True),
        (InputField("f", DType.BYTES, choices=(b"a",)), True),
    ],
)
def test_only_what_a_field_declares_is_checked(field: InputField, checked: bool) -> None:
    assert isinstance(check_for(field), BytesCheck) is checked


@pytest.mark.parametrize("count", [1, 12, 13, 40])
def test_numbers_out_of_a_set_in_small_and_large_batches(count: int) -> None:
    field = InputField("f", DType.INT32, choices=(1, 5, 3))
    check = check_for(field)
    assert isinstance(check, ChoiceCheck)
    values = np.arange(count, dtype=np.int32)
    assert list(check.wrong(Column.of("f", values))) == [i for i in range(count) if i not in (1, 3, 5)]
