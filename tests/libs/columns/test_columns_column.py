"""Byte strings in one buffer, whole or in parts, and the element types; BYTES tensors of the Open Inference Protocol."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.batch.v1 import batch_pb2
from headrace.columns.column import Column, DType, Ragged, join
from headrace.columns.oip_tensors import CONTENTS, pack_bytes, unpack_bytes
from headrace.oip import open_inference_pb2 as oip

WORDS = [b"", b"a", b"bc", b"def", b"", b"ghij"]


def part(items: Sequence[bytes], *, before: bytes = b"", after: bytes = b"", view: bool = False) -> Ragged:
    """The items in a buffer that holds other bytes around them."""
    whole = Ragged.of([before, *items, after])
    data = memoryview(whole.data) if view else whole.data
    return Ragged(whole.offsets[1:-1], data)


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"x", b""), (b"", b"yz"), (b"x", b"yz")])
def test_the_elements_do_not_depend_on_what_lies_around_them(view: bool, before: bytes, after: bytes) -> None:
    found = part(WORDS, before=before, after=after, view=view)
    assert found.to_list() == WORDS
    assert found.nbytes == 10
    assert found.compact().to_list() == WORDS
    assert bytes(found.compact().data) == b"".join(WORDS)
    assert found.compact().offsets[0] == 0
    assert found.take(np.array([5, 0, 2], np.intp)).to_list() == [b"ghij", b"", b"bc"]


def test_what_is_compact_is_not_copied() -> None:
    whole = Ragged.of(WORDS)
    assert whole.compact() is whole


def test_a_slice_has_its_elements_and_shares_the_buffer() -> None:
    whole = Ragged.of(WORDS)
    assert whole.slice(1, 4).to_list() == WORDS[1:4]
    assert whole.slice(0, 6).to_list() == WORDS
    assert whole.slice(3, 3).to_list() == []
    assert whole.slice(1, 4).data is whole.data


@pytest.mark.parametrize("count", [2, 5, 6, 7, 12])
@pytest.mark.parametrize("items", [[b"one"], [b"one", b"", b"three"], []], ids=["one", "three", "none"])
@pytest.mark.parametrize("before", [b"", b"before"])
def test_parts_are_joined_in_their_order(count: int, items: list[bytes], before: bytes) -> None:
    parts = [
        Column("c", DType.BYTES, part([*items, b"%d" % i], before=before, after=b"!")) for i in range(count)
    ]
    joined = join(parts)
    assert joined.ragged.to_list() == [item for i in range(count) for item in (*items, b"%d" % i)]
    assert joined.ragged.offsets[0] == 0


def test_parts_of_one_and_of_several_elements_are_joined_alike() -> None:
    sizes = [1, 1, 2, 1, 0, 1, 3, 1]
    wanted = [[b"%d-%d" % (i, j) for j in range(size)] for i, size in enumerate(sizes)]
    joined = join([Column("c", DType.BYTES, part(items, before=b"x")) for items in wanted])
    assert joined.ragged.to_list() == [item for items in wanted for item in items]


def test_the_numbers_on_the_wire_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("DATA_TYPE_"): value for name, value in batch_pb2.DataType.items()}
    contract.pop("UNSPECIFIED")
    assert {dtype.name: dtype.value for dtype in DType} == contract


def test_names_and_bounds_of_the_element_types() -> None:
    assert (DType.FLOAT32.oip, DType.BOOL.oip, DType.BYTES.oip, DType.INT64.oip) == (
        "FP32",
        "BOOL",
        "BYTES",
        "INT64",
    )
    assert DType.UINT8.bounds == (0, 255)
    assert DType.INT8.bounds == (-128, 127)
    assert DType.INT64.bounds == (-(2**63), 2**63 - 1)
    assert DType.UINT64.bounds == (0, 2**64 - 1)


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
