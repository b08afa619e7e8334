"""How a call fails that must fail: its code, its typed reason, and nothing of our insides."""

import struct
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has no stubs

from headrace.oip import open_inference_pb2 as oip
from tests.system import ROOT

FORBIDDEN_IN_MESSAGES = ("Traceback", str(ROOT), "site-packages", ".py")


def failure(call: Any, *arguments: Any, **named: Any) -> tuple[grpc.StatusCode, str, str, dict[str, str]]:
    """Code, reason, message and metadata of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    error: Any = caught.value
    message, info = error.details() or "", error_info(error)
    assert not any(leak in message for leak in FORBIDDEN_IN_MESSAGES), message
    assert info.domain == "headrace"
    return error.code(), info.reason, message, dict(info.metadata)


def error_info(error: Any) -> error_details_pb2.ErrorInfo:
    """Of a gRPC error, which has one."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert details is not None, f"no ErrorInfo with {error.code()}: {error.details()}"
    info = error_details_pb2.ErrorInfo()
    assert any(d.Unpack(info) for d in status_pb2.Status.FromString(details).details)
    return info


def rest_inputs(*rows: dict[str, Any]) -> dict[str, Any]:
    """The rows as the REST form of the Open Inference Protocol has them."""
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if isinstance(value, str) else "INT32",
            "shape": [len(rows), 1],
            "data": [row[name] for row in rows],
        }
        for name, value in rows[0].items()
    ]
    return {"inputs": inputs}


def oip_request(row: dict[str, Any], **changes: Any) -> oip.ModelInferRequest:
    """ModelInfer of one row with raw contents."""
    request = oip.ModelInferRequest(**{"model_name": "flights", **changes})
    for name, value in row.items():
        text = isinstance(value, str)
        request.inputs.add(name=name, datatype="BYTES" if text else "INT32", shape=[1, 1])
        raw = struct.pack("<I", len(value)) + value.encode() if text else struct.pack("<i", value)
        request.raw_input_contents.append(raw)
    return request
