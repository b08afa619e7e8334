"""Cutting, choosing and joining rows loses nothing; byte strings in one buffer, whole or in parts, and the element types;
BYTES tensors of the Open Inference Protocol."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.batch.v1 import batch_pb2
from headrace.columns import Batch, Column, DType, RowError, Rows, concat
from headrace.columns.column import Ragged, join
from headrace.columns.oip_tensors import CONTENTS, pack_bytes, unpack_bytes
from headrace.hop.errors import Code, Reason
from headrace.oip import open_inference_pb2 as oip

VALUE = st.tuples(
    st.none() | st.binary(max_size=5),  # scalar bytes
    st.integers(-(1 << 31), (1 << 31) - 1),  # int32
    st.none() | st.floats(allow_nan=False),  # float64, may be absent
    st.lists(st.booleans(), min_size=2, max_size=2),  # bool[2]
    st.lists(st.binary(max_size=3), min_size=2, max_size=2),  # bytes[2]
    st.booleans(),  # failed
)
VALUES = st.lists(VALUE, max_size=12)
FAILED = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "no", "stage", {"field": "x"})
WORDS = [b"", b"a", b"bc", b"def", b"", b"ghij"]


def batch_of(values: Sequence[tuple[object, ...]]) -> Batch:
    count = len(values)
    rows = Rows(
        [f"r{i}" for i in range(count)],
        [f"tenant{i % 2}" for i in range(count)],
        [i % 10 for i in range(count)],
        [float(i) for i in range(count)],
        ["" if i % 3 else f"trace{i}" for i in range(count)],
    )
    scores = [v[2] for v in values]
    there = np.array([s is not None for s in scores], bool)
    pairs = [item for v in values for item in v[4]]  # type: ignore[attr-defined]  # a list
    columns = [
        Column.of_bytes("text", [v[0] for v in values]),  # type: ignore[misc]  # bytes or None
        Column.of("number", np.array([v[1] for v in values], np.int32)),
        Column.of("score", np.array([s or 0 for s in scores], np.float64), there),
        Column.of("flags", np.array([v[3] for v in values], bool).reshape(count, 2)),
        Column.of_bytes("pair", pairs, (2,)),
    ]
    return Batch(rows, {c.name: c for c in columns}, {i: FAILED for i, v in enumerate(values) if v[5]})


def contents(batch: Batch) -> list[tuple[object, ...]]:
    """Row by row, everything that belongs to it."""
    assert {n: len(c) for n, c in batch.columns.items()} == dict.fromkeys(batch.columns, len(batch))
    pairs = batch.columns["pair"].ragged.to_list()
    texts = batch.columns["text"].ragged.to_list()
    text_there = batch.columns["text"].is_valid().tolist()
    scores = batch.columns["score"]
    return [
        (
            batch.rows.request_ids[i],
            batch.rows.tenants[i],
            batch.rows.priorities[i],
            batch.rows.deadlines[i],
            batch.rows.traceparents[i],
            texts[i] if text_there[i] else None,
            batch.columns["number"].array[i].item(),
            scores.array[i].item() if scores.is_valid()[i] else None,
            batch.columns["flags"].array[i].tolist(),
            pairs[2 * i : 2 * i + 2],
            batch.errors.get(i),
        )
        for i in range(len(batch))
    ]


@given(values=VALUES, data=st.data())
def test_a_slice_has_the_rows_between(values: list[tuple[object, ...]], data: st.DataObject) -> None:
    batch = batch_of(values)
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    assert contents(batch.slice(start, stop)) == contents(batch)[start:stop]


@given(values=VALUES.filter(bool), data=st.data())
def test_taking_rows_takes_all_that_belongs_to_them(
    values: list[tuple[object, ...]], data: st.DataObject
) -> None:
    batch = batch_of(values)
    index = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    whole = contents(batch)
    assert contents(batch.take(np.array(index, np.intp))) == [whole[i] for i in index]


@given(values=VALUES, cuts=st.lists(st.integers(0, 12), max_size=6))
def test_joined_slices_are_the_whole(values: list[tuple[object, ...]], cuts: list[int]) -> None:
    batch = batch_of(values)
    bounds = [0, *sorted(min(c, len(values)) for c in cuts), len(values)]
    parts = [batch.slice(a, b) for a, b in pairwise(bounds)]
    assert contents(concat(parts)) == contents(batch)
    # Slices of slices share the first one's memory, which may begin anywhere.
    again = concat(parts).slice(0, len(values))
    assert contents(concat([again.slice(i, i + 1) for i in range(len(again))] or [again])) == contents(batch)


def test_unlike_batches_are_not_joined() -> None:
    rows = Rows.one_request(1, "r", "t", 1.0)
    first = Batch.of(rows, [Column.of("x", np.zeros(1))])
    for other in (
        [Column.of("y", np.zeros(1))],
        [Column.of("x", np.zeros(1, np.float32))],
        [Column.of("x", np.zeros((1, 2)))],
        [Column.of("x", np.zeros(1)), Column.of("y", np.zeros(1))],
        [],
    ):
        with pytest.raises(ValueError, match="column"):
            concat([first, Batch.of(rows, other)])


def test_expired_rows_are_those_at_or_past_their_deadline() -> None:
    batch = batch_of([(b"", 0, 0.0, [True, True], [b"", b""], False)] * 3)
    assert list(batch.expired(1.0, "here")) == [0, 1]
    assert batch.expired(-1.0, "here") == {}
    assert batch.expired(0.0, "here")[0].stage == "here"


def test_a_row_keeps_its_first_error_and_ok_leaves_it_out() -> None:
    batch = batch_of([(b"", 0, 0.0, [True, True], [b"", b""], i == 1) for i in range(3)])
    later = RowError(Code.INTERNAL, Reason.REASON_INTERNAL, "later")
    failed = batch.with_errors({1: later, 2: later})
    assert (failed.errors[1], failed.errors[2]) == (FAILED, later)
    assert failed.ok().tolist() == [True, False, False]


def test_columns_are_replaced_and_selected_by_name() -> None:
    batch = batch_of([(b"a", 1, None, [True, False], [b"", b"x"], False)])
    changed = batch.with_columns([Column.of("number", np.array([9]))])
    assert changed.columns["number"].dtype is DType.INT64
    assert list(changed.select(["score", "text"]).columns) == ["score", "text"]
    with pytest.raises(KeyError):
        batch.select(["absent"])


def test_a_column_is_read_as_what_it_is() -> None:
    batch = batch_of([(b"a", 1, None, [True, False], [b"", b"x"], False)])
    with pytest.raises(TypeError):
        _ = batch.columns["text"].array
    with pytest.raises(TypeError):
        _ = batch.columns["number"].ragged
    assert Column.of_text("t", ["é", None, ""]).text() == ["é", None, ""]
    assert Column.of_bytes("t", [b"\xff"]).text() == ["\ufffd"]


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.BYTES])
def test_each_type_knows_its_bounds(dtype: DType) -> None:
    if dtype.is_float:
        with pytest.raises(TypeError):
            _ = dtype.bounds
    else:
        low, high = dtype.bounds
        assert [np.array(low, dtype.numpy).item(), np.array(high, dtype.numpy).item()] == [low, high]
        kind: Any = dtype.numpy  # an integer's, which its type does not say
        assert dtype is DType.BOOL or (low, high) == (np.iinfo(kind).min, np.iinfo(kind).max)


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


def test_neither_what_is_compact_nor_a_slice_is_copied() -> None:
    whole = Ragged.of(WORDS)
    assert whole.compact() is whole
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


def test_the_numbers_on_the_wire_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("DATA_TYPE_"): value for name, value in batch_pb2.DataType.items()}
    contract.pop("UNSPECIFIED")
    assert {dtype.name: dtype.value for dtype in DType} == contract


def test_each_element_has_its_length_in_front() -> None:
    assert pack_bytes([b"ab", b""]) == b"\x02\0\0\0ab\0\0\0\0"
    assert pack_bytes([]) == b""


@given(st.lists(st.binary(max_size=20)), st.data())
def test_of_a_cut_off_tensor_the_whole_elements_are_found(items: list[bytes], data: st.DataObject) -> None:
    raw = pack_bytes(items)
    end = data.draw(st.integers(0, len(raw)) | st.just(len(raw)))
    found, used = unpack_bytes(raw[:end])
    assert found == items[: len(found)]
    assert used == len(pack_bytes(found)) <= end
    assert (len(found) == len(items)) == (end == len(raw))


def test_no_more_elements_are_made_than_wanted() -> None:
    raw = pack_bytes([b"", b"x", b"yz"])
    assert unpack_bytes(raw, 2) == ([b"", b"x"], 9)
    assert unpack_bytes(raw, 0) == ([], 0)


@pytest.mark.parametrize("dtype", set(DType) - {DType.FLOAT16}, ids=lambda dtype: dtype.name)
def test_every_type_but_fp16_has_a_field_of_typed_contents(dtype: DType) -> None:
    assert CONTENTS[dtype] in oip.InferTensorContents.DESCRIPTOR.fields_by_name
