"""BYTES tensors of the Open Inference Protocol, whole and cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from headrace.columns.oip_tensors import CONTENTS, pack_bytes, unpack_bytes
from headrace.oip import open_inference_pb2 as oip


def test_each_element_has_its_length_in_front() -> None:
    assert pack_bytes([b"ab", b""]) == b"\x02\0\0\0ab\0\0\0\0"
    assert pack_bytes([]) == b""


@given(st.lists(st.binary(max_size=20)))
def test_what_is_packed_is_unpacked(items: list[bytes]) -> None:
    raw = pack_bytes(items)
    assert unpack_bytes(raw) == (items, len(raw))


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_of_a_cut_off_tensor_the_whole_elements_are_found(items: list[bytes], data: st.DataObject) -> None:
    raw = pack_bytes(items)
    end = data.draw(st.integers(0, len(raw) - 1))
    found, used = unpack_bytes(raw[:end])
    assert found == items[: len(found)]
    assert used == len(pack_bytes(found)) <= end
    assert len(found) < len(items)


def test_no_more_elements_are_made_than_wanted() -> None:
    raw = pack_bytes([b"", b"x", b"yz"])
    assert unpack_bytes(raw, 2) == ([b"", b"x"], 9)
    assert unpack_bytes(raw, 0) == ([], 0)


@pytest.mark.parametrize("dtype", set(DType) - {DType.FLOAT16}, ids=lambda dtype: dtype.name)
def test_every_type_but_fp16_has_a_field_of_typed_contents(dtype: DType) -> None:
    assert CONTENTS[dtype] in oip.InferTensorContents.DESCRIPTOR.fields_by_name
