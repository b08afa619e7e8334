"""Each row of the issue's table of bad input, through the real door: a canonical code, a typed reason, what to do."""

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.gauges import busy, samples
from tests.pipeline.refusals import failure, oip_request
from tests.system import System, poll, row_request


@pytest.mark.parametrize(
    ("own", "oip_own", "reason", "said", "known"),
    [
        (
            {"pipeline": "flihgts"},
            {"model_name": "flihgts"},
            "PIPELINE_UNKNOWN",
            "may use: flights",
            "flihgts",
        ),
        ({"version": 99}, {"model_version": "99"}, "VERSION_UNKNOWN", "99", "1"),
    ],
)
def test_unknown_pipeline_or_version_names_the_ones_there_are(
    system: System, own: dict[str, Any], oip_own: dict[str, Any], reason: str, said: str, known: str
) -> None:
    for code, got, message, metadata in (
        failure(system.predict, row_request(system.rows[0], **own)),
        failure(system.infer, oip_request(system.rows[0], **oip_own)),
    ):
        assert (code, got) == (grpc.StatusCode.NOT_FOUND, reason)
        assert said in message
        assert metadata["versions" if "version" in own else "pipeline"] == known


def test_unknown_input_names_the_ones_there_are(system: System) -> None:
    for code, reason, message, metadata in (
        failure(system.predict, row_request({**system.rows[0], "colour": "red"})),
        failure(system.infer, oip_request({**system.rows[0], "colour": "red"})),
    ):
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_UNKNOWN")
        assert "'colour'" in message
        assert metadata["input"] == "colour"
        assert {"carrier", "month"} <= set(
            (metadata.get("known") or metadata["inputs"]).replace(" ", "").split(",")
        )


Raw: TypeAlias = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "raw", "reason", "tensor"),
    [
        ({"datatype": "FP32"}, list, "INPUT_DTYPE", 4),
        ({"shape": [2, 1]}, list, "INPUT_SHAPE", 4),
        ({}, lambda raw: [*raw[:4], raw[4] + b"\x00", *raw[5:]], "INPUT_SHAPE", 4),
        ({}, lambda raw: [struct.pack("<I", 1 << 31) + b"UA", *raw[1:]], "INPUT_SHAPE", 0),
        ({"contents": {"int_contents": [1]}}, list, "MALFORMED_REQUEST", 4),
        ({}, lambda raw: raw[:-1], "MALFORMED_REQUEST", None),
        ({"shape": [-1, 1]}, list, "INPUT_SHAPE", 4),
    ],
    ids=["dtype", "shape", "length", "length of a text", "both", "count", "rank"],
)
def test_wrong_tensor(
    system: System, change: dict[str, Any], raw: Raw, reason: str, tensor: int | None
) -> None:
    request = oip_request(ordered(system.rows[0]))
    name = "raw_input_contents" if tensor is None else request.inputs[tensor].name
    for field in change:
        request.inputs[4].ClearField(field)
    request.inputs[4].MergeFrom(oip.ModelInferRequest.InferInputTensor(**change))
    request.raw_input_contents[:] = raw(list(request.raw_input_contents))
    code, got, message, metadata = failure(system.infer, request)
    assert (code, got) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert name in message
    assert name in metadata.values()


def test_a_wrong_value_in_a_tensor_names_row_and_field(system: System) -> None:
    request = oip_request(ordered(system.rows[0]))
    for i, tensor in enumerate(request.inputs):
        tensor.shape[0] = 3
        request.raw_input_contents[i] *= 3
        if tensor.name == "month":
            request.raw_input_contents[i] = struct.pack("<3i", 1, 2, 13)
    code, reason, message, metadata = failure(system.infer, request)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_RANGE")
    assert "input month, row 2" in message
    assert (metadata["input"], metadata["row"]) == ("month", "2")


def ordered(row: dict[str, Any]) -> dict[str, Any]:
    """Text fields first, so that positions in the tests above mean something."""
    return dict(sorted(row.items(), key=lambda item: not isinstance(item[1], str)))


def ran(system: System) -> float:
    """Rows that models have run for, all together."""
    owner = "ingress" if system.shape == "together" else "executor"
    return sum(value for _, value in samples(system, "headrace_executor_batch_rows_sum", [owner]))


def test_a_deadline_too_short_to_try(system: System) -> None:
    system.predict(row_request(system.rows[0]))
    poll("nobody is served", lambda: not busy(system))
    before = ran(system)
    assert before > 0
    request = oip_request(system.rows[0])
    request.parameters["timeout"].int64_param = 500
    for _ in range(20):
        code, reason, message, metadata = failure(system.infer, request)
        assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED")
        assert f"{metadata['remaining_ms']} ms are left" in message
    assert ran(system) == before
