"""Open Inference Protocol tensors → columns. Every name, type, shape and length is checked before NumPy sees it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.columns.column import Array
from headrace.columns.oip_tensors import CONTENTS, LENGTH, unpack_bytes
from headrace.hop.errors import Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import InputField
from services.ingress.documents.catalog import Entry, Input
from services.ingress.faults import invalid, malformed
from services.ingress.inference import check_rows

_OFFSETS = struct.Struct("=II")
Tensor = pb.ModelInferRequest.InferInputTensor


def read_columns(request: pb.ModelInferRequest, entry: Entry, max_rows: int) -> tuple[dict[str, Column], int]:
    """The columns of a request and its row count. Raises Fault INVALID_ARGUMENT naming tensor, row and field,
    RESOURCE_EXHAUSTED for too many rows."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise malformed(
            f"raw_input_contents has {len(raw)} entries for {len(inputs)} inputs; it needs one per input, in order",
            "raw_input_contents",
        )
    columns: dict[str, Column] = {}
    count = -1
    contents: Iterable[bytes | None] = raw or repeat(None)
    for tensor, data in zip(inputs, contents, strict=False):
        name = tensor.name
        wanted = entry.inputs.get(name)
        if wanted is None or name in columns:
            raise _unknown(name, entry, name in columns)
        if tensor.datatype != wanted.datatype:
            raise _wrong_type(name, tensor.datatype, wanted.field)
        rows = row_count(tensor, wanted)
        if count < 0:
            check_rows(rows, max_rows)
            count = rows
        elif rows != count:
            first = inputs[0].name
            raise _wrong_shape(name, f"input {name} has {rows} rows, input {first} has {count}")
        columns[name] = _read(tensor, data, wanted, rows)
    check_rows(max(count, 0), max_rows)
    return columns, count


def row_count(tensor: Tensor, wanted: Input) -> int:
    """Rows of a tensor according to its shape. Raises Fault INVALID_ARGUMENT."""
    if tensor.shape in wanted.one_row:
        return 1  # the common case
    name, shape, field = tensor.name, list(tensor.shape), wanted.field
    rest = shape[1:]
    if shape and shape[0] >= 0 and (rest == list(field.row_shape) or (rest == [1] and not field.row_shape)):
        return shape[0]
    fits = ", ".join(["rows", *map(str, field.row_shape or (1,))])
    raise _wrong_shape(name, f"input {name} has shape {shape[:16]}; [{fits}] is wanted")


def _read(tensor: Tensor, raw: bytes | None, wanted: Input, rows: int) -> Column:
    field = wanted.field
    if raw is None:
        return _read_typed(tensor, field, rows, rows * wanted.row_size)
    if tensor.HasField("contents"):
        raise malformed(f"input {tensor.name} has both raw and typed contents; send one of them", tensor.name)
    dtype, row_shape = field.dtype, field.row_shape
    if dtype is DType.BYTES:
        return Column(field.name, dtype, _read_strings(field.name, raw, rows * wanted.row_size), row_shape)
    size = rows * wanted.row_bytes
    if len(raw) != size:
        raise _wrong_shape(
            field.name,
            f"input {field.name} has {len(raw)} raw bytes; shape {list(tensor.shape)} of {dtype.oip} needs {size}",
        )
    array: Array = np.frombuffer(raw, dtype.numpy)
    if dtype is DType.BOOL and array.view(np.uint8).max(initial=0) > 1:
        raise _out_of_range(field.name, int(array.view(np.uint8).argmax()), "is neither 0 nor 1")
    return Column(field.name, dtype, array.reshape(rows, *row_shape) if row_shape else array, row_shape)


def _read_strings(name: str, raw: bytes, elements: int) -> Ragged:
    """Elements, each as a 4-byte little-endian length and its bytes."""
    if elements == 1 and len(raw) >= 4 and LENGTH.unpack_from(raw)[0] == len(raw) - 4:
        # One string is the common case, and computing its offsets with NumPy costs more than all the rest here.
        return Ragged(np.frombuffer(_OFFSETS.pack(0, len(raw) - 4), np.uint32), raw[4:])
    items, size = unpack_bytes(raw, elements)
    if size != len(raw) or len(items) != elements:
        raise _wrong_shape(
            name,
            f"input {name} needs {elements} raw elements (4-byte length, then bytes); element {len(items)} does not fit",
            element=str(len(items)),
        )
    return Ragged.of(items)


def _read_typed(tensor: Tensor, field: InputField, rows: int, elements: int) -> Column:
    name, dtype = field.name, field.dtype
    attribute = CONTENTS.get(dtype)
    if attribute is None:
        raise malformed(f"input {name}: {dtype.oip} has no typed contents; send raw_input_contents", name)
    values: Sequence[object] = getattr(tensor.contents, attribute)
    if len(values) != elements:
        raise _wrong_shape(
            name,
            f"input {name} has {len(values)} elements in {attribute}; shape {list(tensor.shape)} needs {elements}",
        )
    if dtype is DType.BYTES:
        return Column(name, dtype, Ragged.of(list(tensor.contents.bytes_contents)), field.row_shape)
    wide = np.array(values, np.int64 if attribute in ("int_contents", "uint_contents") else dtype.numpy)
    array = wide.astype(dtype.numpy, copy=False)
    if wide.dtype != array.dtype and (wide != array).any():
        row = int((wide != array).argmax()) * rows // elements
        raise _out_of_range(name, row, f"does not fit {dtype.oip}")
    return Column(name, dtype, array.reshape(rows, *field.row_shape), field.row_shape)


def _unknown(name: str, entry: Entry, twice: bool) -> Fault:
    known = ", ".join(entry.inputs)
    text = f"input {name[:80]} is given twice" if twice else f"no input {name[:80]!r}"
    return invalid(
        Reason.REASON_INPUT_UNKNOWN,
        f"{text}; pipeline {entry.pipeline.name} has the inputs {known}",
        input=name[:80],
        pipeline=entry.pipeline.name,
        inputs=known,
    )


def _wrong_type(name: str, sent: str, field: InputField) -> Fault:
    return invalid(
        Reason.REASON_INPUT_DTYPE,
        f"input {name} has datatype {sent[:20]!r}; {field.dtype.oip} is wanted",
        input=name,
        datatype=sent[:20],
        wanted=field.dtype.oip,
    )


def _wrong_shape(name: str, message: str, **metadata: str) -> Fault:
    return invalid(Reason.REASON_INPUT_SHAPE, message, input=name, **metadata)


def _out_of_range(name: str, row: int, what: str) -> Fault:
    return invalid(Reason.REASON_INPUT_RANGE, f"row {row}: input {name} {what}", input=name, row=str(row))
