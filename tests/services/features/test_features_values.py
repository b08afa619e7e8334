"""The bytes of columns are those of the values as protobuf reads them, whatever form they are stored in."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from services.features.reply import DTYPES, FloatPacker, Packed, packer

# Before Feast: see conftest.py.
from services.features import wiring  # noqa: F401  # isort: skip
from feast.protos.feast.types.Value_pb2 import Value  # isort: skip

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double_val": st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf]),
    "float_val": st.floats(width=32),
    "int64_val": st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-2, 300),
    "int32_val": st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-2, 300),
    "bool_val": st.booleans(),
    "string_val": st.text(max_size=300),
    "bytes_val": st.binary(max_size=300),
    "unix_timestamp_val": st.integers(-(1 << 63), (1 << 63) - 1),
}


def stored(field: str) -> st.SearchStrategy[bytes]:
    """A value of the field, a null, one written twice, one of another type, or garbage."""
    whole = VALUES[field].map(lambda v: Value(**{field: v}).SerializeToString())
    other = st.sampled_from(sorted(VALUES)).flatmap(
        lambda f: VALUES[f].map(lambda v: Value(**{f: v}).SerializeToString())
    )
    twice = st.tuples(whole, whole | other).map(b"".join)
    return st.one_of(whole, whole, whole, st.just(b""), twice, other, st.binary(max_size=12))


def expected(field: str, raw: bytes) -> object:
    """What protobuf makes of it; None for null, NaN, another type and garbage."""
    try:
        value = Value.FromString(raw)
    except Exception:  # noqa: BLE001 - protobuf's own error class depends on its implementation
        return None
    if value.WhichOneof("val") != field:
        return None
    found = getattr(value, field)
    if isinstance(found, float) and math.isnan(found):
        return None
    return found.encode() if isinstance(found, str) else found


def unpacked(field: str, packed: Packed, rows: int) -> list[object]:
    data, offsets, validity = packed
    dtype = DTYPES[field]
    if dtype is DType.BYTES:
        bounds = np.frombuffer(offsets, "<u4").tolist()
        assert (bounds[0], bounds[-1], len(bounds)) == (0, len(data), rows + 1)
        values: list[object] = [data[a:b] for a, b in pairwise(bounds)]
    else:
        assert offsets == b""
        values = np.frombuffer(data, dtype.numpy).tolist()
    assert len(values) == rows
    if not validity:
        return values
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), count=rows, bitorder="little").tolist()
    assert not all(bits), "a bitmap of ones says nothing"
    assert all(ok or not value for ok, value in zip(bits, values, strict=True)), "no value is zero or empty"
    return [value if ok else None for ok, value in zip(bits, values, strict=True)]


@pytest.mark.parametrize("field", sorted(VALUES))
@given(data=st.data())
def test_columns_hold_what_protobuf_reads(field: str, data: st.DataObject) -> None:
    raws = data.draw(st.lists(stored(field), min_size=1, max_size=20))
    assert unpacked(field, packer(field)(raws), len(raws)) == [expected(field, raw) for raw in raws]


def test_a_value_as_long_as_two_is_not_taken_for_two() -> None:
    one, other = (Value(double_val=v).SerializeToString() for v in (1.5, 2.5))
    assert unpacked("double_val", packer("double_val")([one + other, b""]), 2) == [2.5, None]
    assert unpacked("double_val", packer("double_val")([one + other]), 1) == [2.5]


# Field number × 8 + wire type.
TAGS = {"double_val": 5 << 3 | 1, "float_val": 6 << 3 | 5}


def by_columns(field: str, views: list[list[tuple[bytes, ...]]], counts: list[int]) -> Packed:
    """The given columns one after the other, as one."""
    raws = [row[k] for rows, count in zip(views, counts, strict=True) for k in range(count) for row in rows]
    return packer(field)(raws)


@pytest.mark.parametrize("field", ["double_val", "float_val"])
@given(data=st.data())
def test_rows_packed_together_are_the_columns(field: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    pack = packer(field)
    assert isinstance(pack, FloatPacker)
    usual = VALUES[field].map(lambda v: Value(**{field: v}).SerializeToString()) | st.just(b"")
    raw = data.draw(st.sampled_from([usual, usual, stored(field)]))
    views, counts = [], []
    for width in data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
        row = st.tuples(*[raw] * width) | st.just((b"",) * width)
        views.append(data.draw(st.lists(row, min_size=count, max_size=count)))
        counts.append(data.draw(st.integers(1, width)))
    matrices = [matrix for rows in views if (matrix := pack.matrix(rows)) is not None]
    if len(matrices) == len(views):
        assert pack.pack_matrices(matrices, counts) == by_columns(field, views, counts)
    else:
        flat = [value for rows in views for row in rows for value in row]
        assert any(v and not is_usual(field, v) for v in flat)


def is_usual(field: str, raw: bytes) -> bool:
    """Whether a matrix can hold it: one value in the form that serialisers write, and not NaN."""
    size = 9 if field == "double_val" else 5
    return len(raw) == size and raw[0] == TAGS[field] and expected(field, raw) is not None
