"""Tensors in, tensors out: any message gives columns or the caller's fault; what is right comes back unchanged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.errors import Code, Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import Pipeline, parse
from services.ingress.documents.catalog import Entry
from services.ingress.oip.request import read_columns
from services.ingress.oip.response import raw_contents
from services.ingress.protocols.rest.tensors import read_request
from tests.services.ingress.test_ingress_frames import attempt

TYPES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "bytes",
]


def entry() -> Entry:
    fields = "".join(f"  {t}: {{type: {t}, required: false}}\n" for t in TYPES)
    text = (
        f"pipeline: p\nversion: 1\ndeadline_ms: 100\ninputs:\n{fields}  m: {{type: float32, shape: [2, 2], required: false}}\n"
        "stages:\n  - model: m\n    name: m\n    inputs: {m: m}\n    outputs: {y: {column: y, type: float32}}\noutputs: [y]\n"
    )
    pipeline: Pipeline = parse(text, "p.yaml")
    return Entry.of(pipeline)


ENTRY = entry()


@given(st.binary(max_size=300))
def test_any_message_gives_columns_or_a_fault(data: bytes) -> None:
    try:
        request = pb.ModelInferRequest.FromString(data)
    except Exception:  # noqa: BLE001 - upb's own refusal is not under test
        return
    with pytest.raises(Fault) as caught:
        read_columns(request, ENTRY, 10)
    assert caught.value.code in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}


@given(
    st.sampled_from([*TYPES, "m", "zzz"]),
    st.sampled_from(["FP32", "INT32", "BYTES", "BOOL", "BF16", "FP16", ""]),
    st.lists(st.integers(-2, 1 << 40), max_size=4),
    st.binary(max_size=40),
)
def test_any_tensor_gives_its_column_or_a_fault(
    name: str, datatype: str, shape: list[int], raw: bytes
) -> None:
    request = pb.ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    outcome = attempt(lambda: read_columns(request, ENTRY, 10))
    if isinstance(outcome, Fault):
        assert outcome.code in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}
    else:
        columns, count = outcome
        assert len(columns[name]) == count == shape[0]
        assert raw_contents(columns[name]) == raw


@pytest.mark.parametrize("name", ["int32", "bytes", "m"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_scalar_may_have_a_dimension_of_its_own(name: str, rows: int) -> None:
    field = ENTRY.inputs[name].field
    shapes = [[rows, *field.row_shape]] if field.row_shape else [[rows], [rows, 1]]
    raw = b"\1\0\0\0x" * rows if name == "bytes" else bytes(rows * ENTRY.inputs[name].row_bytes)
    for shape in shapes:
        request = pb.ModelInferRequest(raw_input_contents=[raw])
        request.inputs.add(name=name, datatype=field.dtype.oip, shape=shape)
        columns, count = read_columns(request, ENTRY, 10)
        assert count == rows
        assert columns[name].row_shape == field.row_shape
        assert raw_contents(columns[name]) == raw


def test_typed_contents_are_not_wrapped_around() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="int8", datatype="INT8", shape=[2]).contents.int_contents.extend([1, 300])
    with pytest.raises(Fault, match=r"row 1: input int8") as caught:
        read_columns(request, ENTRY, 10)
    assert caught.value.reason == Reason.REASON_INPUT_RANGE
    request.inputs[0].contents.int_contents[1] = -128
    assert read_columns(request, ENTRY, 10)[0]["int8"].array.tolist() == [1, -128]


def test_half_precision_is_raw_only() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="float16", datatype="FP16", shape=[1]).contents.fp32_contents.append(1)
    with pytest.raises(Fault, match="raw_input_contents"):
        read_columns(request, ENTRY, 10)
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(np.array([1], "<f2").tobytes())
    assert read_columns(request, ENTRY, 10)[0]["float16"].array.tolist() == [1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": json_values,
            "parameters": json_values,
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "name": st.sampled_from(TYPES) | json_values,
                        "datatype": st.sampled_from(["FP32", "INT32", "BYTES"]) | json_values,
                        "shape": json_values,
                        "data": json_values,
                        "parameters": json_values,
                    },
                ),
                max_size=2,
            )
            | json_values,
            "outputs": json_values,
        },
    ),
    st.binary(max_size=8),
)
def test_any_rest_body_gives_a_request_or_a_fault(document: dict[str, object], binary: bytes) -> None:
    text = json.dumps(document).encode()
    outcome = attempt(lambda: read_request(text + binary, len(text), "p", "", 10_000))
    if isinstance(outcome, Fault):
        assert outcome.code is Code.INVALID_ARGUMENT
    else:
        request, _ = outcome
        assert len(request.raw_input_contents) == len(request.inputs)
