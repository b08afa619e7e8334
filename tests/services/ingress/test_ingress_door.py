"""The door as clients see it: a real Envoy with the ingress inside, every protocol."""

import json

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]  # has no stubs

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Column, encode_columns
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import (
    JSON,
    OIP,
    PREDICT,
    call,
    http,
    infer,
    infer_refused,
    post,
    refused,
    rest_body,
    stream,
)
from tests.services.ingress.ingress_door import Folder, infer_request
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_model_infer_answers_in_raw_contents(door: Folder) -> None:
    reply = await infer(door, infer_request([[1, 2], [3, 4]], [1, 5], [b"a", b"bc"], id="my-1"))
    assert (reply.model_name, reply.model_version, reply.id) == ("double", "3", "my-1")
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [
        ("y", "FP32", [2, 2]),
        ("big", "BOOL", [2, 1]),
        ("said", "BYTES", [2, 1]),
    ]
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [2, 4, 6, 8]
    assert reply.raw_output_contents[1] == b"\0\1"
    assert reply.raw_output_contents[2] == b"\1\0\0\0a\2\0\0\0bc"
    assert reply.parameters["fallbacks"].string_param == "store_down"
    assert reply.parameters["models"].string_param == "doubler:1"


async def test_requested_outputs_only_and_typed_contents(door: Folder) -> None:
    request = oip.ModelInferRequest(model_name="double", model_version="3")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2])
    request.inputs.add(name="n", datatype="INT32", shape=[1]).contents.int_contents.append(2)
    request.outputs.add(name="y")
    reply = await infer(door, request)
    assert [o.name for o in reply.outputs] == ["y"]
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [3, 4]


@pytest.mark.parametrize("tls", [False, True])
async def test_predict_as_json(door: Folder, tls: bool) -> None:
    body = json.dumps(
        {"pipeline": "double", "requestId": "j-1", "rows": [{"x": [1, 2], "n": 3, "word": "hi"}]}
    )
    status, headers, content = await http(door, PREDICT, body.encode(), JSON, tls=tls)
    reply = json.loads(content)
    assert (status, headers["x-request-id"], reply["requestId"]) == (200, "j-1", "j-1")
    assert reply["predictions"][0]["outputs"] == {"y": [2.0, 4.0], "big": False, "said": "hi"}
    assert reply["predictions"][0]["features"] == {"weather": {"source": "present", "ageMs": "5"}}
    assert reply["predictions"][0]["fallbacks"] == ["store_down"]


async def test_a_bad_row_leaves_the_others(door: Folder) -> None:
    request = pb.PredictRequest(pipeline="double")
    for n in (1, 7, 99):
        request.rows.add().update({"x": [1, 2], "n": n})
    reply = await call(door, PREDICT, request, pb.PredictResponse)
    errors = [p.error.code if p.HasField("error") else 0 for p in reply.predictions]
    assert errors == [0, 9, 3]
    assert "n" in reply.predictions[2].error.message
    only = pb.PredictRequest(pipeline="double", rows=[request.rows[1]])
    assert (await refused(door, PREDICT, only, pb.PredictResponse))[:2] == (
        "FAILED_PRECONDITION",
        "FEATURE_UNAVAILABLE",
    )


async def test_predict_by_columns(door: Folder) -> None:
    columns = [Column.of("x", np.ones((2, 2), np.float32)), Column.of("n", np.array([1, 6], np.int32))]
    request = pb.PredictRequest(pipeline="double", columns=encode_columns(columns), row_count=2)
    reply = await call(door, PREDICT, request, pb.PredictResponse)
    assert {c.name for c in reply.columns} >= {"y", "big", "said", "@fallbacks"}
    assert not reply.predictions


async def test_metadata_and_config(door: Folder) -> None:
    metadata = await call(
        door, OIP + "ModelMetadata", oip.ModelMetadataRequest(name="double"), oip.ModelMetadataResponse
    )
    assert [(t.name, list(t.shape)) for t in metadata.inputs] == [
        ("x", [-1, 2]),
        ("n", [-1, 1]),
        ("word", [-1, 1]),
    ]
    config = await call(
        door, OIP + "ModelConfig", oip.ModelConfigRequest(name="double"), oip.ModelConfigResponse
    )
    assert config.config.max_batch_size == 100
    assert [i.optional for i in config.config.input] == [False, False, True]


async def test_a_stream_goes_on_after_a_failed_request(door: Folder) -> None:
    requests = [
        infer_request([[1, 2]], [1], id="a"),
        infer_request([[1, 2]], [77], id="b"),
        infer_request([[3, 4]], [5], id="c"),
    ]
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        replies = stream(channel)(iter(requests), timeout=60, metadata=(("x-api-key", door.keys.demo),))
        found = [(r.infer_response.id, bool(r.error_message)) async for r in replies]
    assert found == [("a", False), ("b", True), ("c", False)]


async def test_rest(door: Folder) -> None:
    status, headers, content = await http(door, "/v2/models/double/versions/3/infer", rest_body())
    reply = json.loads(content)
    assert (status, headers["x-request-id"], reply["id"]) == (200, "r-1", "r-1")
    assert {o["name"]: o["data"] for o in reply["outputs"]} == {
        "y": [3.0, 4.0],
        "big": [False],
        "said": ["é"],
    }
    for path in ("/v2", "/v2/models/double", "/v2/models/double/config", "/v2/models/double/stats"):
        status, _, content = await http(door, path)
        assert status == 200
        assert json.loads(content)
    # perf_analyzer takes numbers only.
    status, _, content = await http(door, "/v2/models/double/stats")
    assert json.loads(content)["model_stats"][0]["inference_stats"]["queue"]["count"] > 0
    for path, said in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/double/ready", {"name": "double", "ready": True}),
    ):
        status, _, content = await http(door, path)
        assert (status, json.loads(content)) == (200, said)
    assert (await http(door, "/v2/models/double", None, key=""))[0] == 401
    assert (await http(door, "/v2/models/double/infer"))[0] == 405


async def test_rest_binary_data(door: Folder) -> None:
    raw = np.array([[1.5, 2]], "<f4").tobytes()
    document = {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": len(raw)}},
            {"name": "n", "datatype": "INT32", "shape": [1], "data": [3]},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}, {"name": "big"}],
    }
    text = json.dumps(document).encode()
    status, headers, content = await http(
        door, "/v2/models/double/infer", text + raw, f"inference-header-content-length: {len(text)}"
    )
    length = int(headers["inference-header-content-length"])
    assert status == 200
    assert np.frombuffer(content[length:], "<f4").tolist() == [3, 4]
    assert json.loads(content[:length])["outputs"][1]["data"] == [False]


async def test_the_log_tells_of_failures_without_secrets(door: Folder) -> None:
    secret = "hr_11111111_very-secret"
    await infer_refused(door, infer_request([[1, 2]], [1], id="logged-1"), key=secret)
    await until(lambda: '"path":"/inference' in (door.path / "access.log").read_text())
    text = (door.path / "ingress.log").read_text() + (door.path / "access.log").read_text()
    assert "unknown_key" in text
    assert secret not in text
    assert door.keys.demo not in text


async def test_reflection_and_health(door: Folder) -> None:
    for service in ("", "inference.GRPCInferenceService"):
        found = await post(door, "/grpc.health.v1.Health/Check", {"service": service}, key="")
        assert found == (200, {"status": "SERVING"})
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services="*"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.ModelInferRequest"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="nobody.Knows"),
        ]
        listed, file, unknown = [reply async for reply in stub.ServerReflectionInfo(iter(asked))]
    assert "inference.GRPCInferenceService" in {s.name for s in listed.list_services_response.service}
    assert file.file_descriptor_response.file_descriptor_proto
    assert unknown.error_response.error_code == 5
