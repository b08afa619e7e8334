"""Each row of the issue's table of bad input, through the real door: a canonical code, a typed reason, what to do."""

from __future__ import annotations

import struct
import time
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has no stubs

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.oip import open_inference_pb2 as oip
from tests.system import ROOT, System, row_request

FORBIDDEN_IN_MESSAGES = ("Traceback", str(ROOT), "site-packages", ".py")


def failure(call: Any, *arguments: Any, **named: Any) -> tuple[grpc.StatusCode, str, str, dict[str, str]]:
    """Code, reason, message and metadata of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    error: Any = caught.value
    message = error.details() or ""
    assert not any(leak in message for leak in FORBIDDEN_IN_MESSAGES), message
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert details is not None, f"no ErrorInfo with {error.code()}: {message}"
    info = error_details_pb2.ErrorInfo()
    assert any(d.Unpack(info) for d in status_pb2.Status.FromString(details).details)
    assert info.domain == "headrace"
    return error.code(), info.reason, message, dict(info.metadata)


def oip_request(row: dict[str, Any], **changes: Any) -> oip.ModelInferRequest:
    """ModelInfer of one row with raw contents."""
    request = oip.ModelInferRequest(model_name="flights", **changes)
    for name, value in row.items():
        text = isinstance(value, str)
        request.inputs.add(name=name, datatype="BYTES" if text else "INT32", shape=[1, 1])
        raw = struct.pack("<I", len(value)) + value.encode() if text else struct.pack("<i", value)
        request.raw_input_contents.append(raw)
    return request


@pytest.mark.parametrize("key", ["", "hr_unknown", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."])
def test_bad_credentials(system: System, key: str) -> None:
    code, reason, message, _ = failure(system.predict, row_request(system.rows[0]), key=key)
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")
    assert "expired" not in message
    assert "unknown" not in message


def test_unknown_pipeline_names_the_ones_there_are(system: System) -> None:
    code, reason, message, _ = failure(system.predict, row_request(system.rows[0], pipeline="flihgts"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "PIPELINE_UNKNOWN")
    assert "flights" in message


def test_unknown_version(system: System) -> None:
    code, reason, _, _ = failure(system.predict, row_request(system.rows[0], version=99))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "VERSION_UNKNOWN")


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"colour": "red"}, "INPUT_UNKNOWN", "colour"),
        ({"month": 13}, "INPUT_RANGE", "month"),
        ({"month": float("nan")}, None, "month"),
        ({"month": 1.5}, None, "month"),
        ({"month": "March"}, "INPUT_DTYPE", "month"),
        ({"month": None}, "INPUT_MISSING", "month"),
        ({"carrier": "far too long for a carrier"}, None, "carrier"),
    ],
)
def test_wrong_field(system: System, change: dict[str, Any], reason: str | None, field: str) -> None:
    code, got, message, metadata = failure(system.predict, row_request({**system.rows[0], **change}))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert reason is None or got == reason
    assert field in message
    assert field in metadata.values()


def test_one_bad_row_leaves_the_others(system: System) -> None:
    good, bad = system.rows[0], {**system.rows[1], "hour": 99}
    answer = system.predict(row_request(good, bad, good))
    assert [p.HasField("error") for p in answer.predictions] == [False, True, False]
    assert answer.predictions[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "hour" in answer.predictions[1].error.message


def spoil_dtype(request: oip.ModelInferRequest) -> None:
    request.inputs[4].datatype = "FP32"


def spoil_shape(request: oip.ModelInferRequest) -> None:
    request.inputs[4].shape[:] = [2, 1]


def spoil_length(request: oip.ModelInferRequest) -> None:
    request.raw_input_contents[4] += b"\x00"


def spoil_text_length(request: oip.ModelInferRequest) -> None:
    request.raw_input_contents[0] = struct.pack("<I", 1 << 31) + b"UA"


def spoil_both(request: oip.ModelInferRequest) -> None:
    request.inputs[4].contents.int_contents.append(1)


def spoil_count(request: oip.ModelInferRequest) -> None:
    del request.raw_input_contents[-1]


def spoil_rank(request: oip.ModelInferRequest) -> None:
    request.inputs[4].shape[:] = [-1, 1]


@pytest.mark.parametrize(
    "spoil", [spoil_dtype, spoil_shape, spoil_length, spoil_text_length, spoil_both, spoil_count, spoil_rank]
)
def test_wrong_tensor(system: System, spoil: Any) -> None:
    request = oip_request(ordered(system.rows[0]))
    spoil(request)
    code, _, message, _ = failure(system.infer, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message


def ordered(row: dict[str, Any]) -> dict[str, Any]:
    """Text fields first, so that positions in the tests above mean something."""
    return dict(sorted(row.items(), key=lambda item: not isinstance(item[1], str)))


def test_right_tensors_are_right(system: System) -> None:
    answer = system.infer(oip_request(ordered(system.rows[0]), id="oip-1"))
    assert answer.id == "oip-1"
    assert len(answer.raw_output_contents) == len(answer.outputs) == 2
    named = {o.name: raw for o, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)}
    [probability] = np.frombuffer(named["probability"], np.float32)
    rows = system.predict(row_request(system.rows[0])).predictions[0]
    assert float(probability) == rows.outputs["probability"]


def test_too_many_rows(system: System) -> None:
    code, reason, _, metadata = failure(system.predict, row_request(*[system.rows[0]] * 5000))
    assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert reason == "TOO_LARGE"
    assert metadata


def test_message_over_the_limit(system: System) -> None:
    request = pb.PredictRequest(pipeline="flights")
    request.columns.add(name="carrier", data=b"x" * (80 << 20))
    with pytest.raises(grpc.RpcError) as caught:
        system.predict(request, timeout=20)
    error: Any = caught.value
    assert error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}


def test_a_deadline_too_short_to_try(system: System) -> None:
    before = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        system.predict(row_request(system.rows[0]), timeout=0.0003)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - before < 2
