"""What the door refuses, and how it says so, in every protocol; what nobody serves: unknown services, methods and paths; and
what headers bring: any id of a caller comes back as it was, with a safe key in logs, traces and stores."""

import asyncio
import json
import sqlite3
import urllib.request
from contextlib import closing
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop.call import methods_of
from headrace.hop.request_ids import request_key
from headrace.state import traces
from services.ingress.wiring import INFERENCE_SERVICE, OIP_SERVICE, OPERATIONS_SERVICE, RELEASE_SERVICE
from tests.services.ingress.ingress_calls import (
    JSON,
    OIP,
    PREDICT,
    call,
    frame,
    http,
    infer,
    infer_refused,
    refused,
    stream,
    unary,
)
from tests.services.ingress.ingress_door import FACTS, FakeRouter, Folder, infer_request
from tests.system import poll

pytestmark = pytest.mark.asyncio(loop_scope="session")
IDS = ["a b", "a,b", "order#12", "é", 'x\n{"level": "error"}\r\n\0\x7f', "a/b", "長" * 1024]
ROWS: dict[str, Any] = {"pipeline": "double", "rows": [{"x": [1, 2], "n": 3, "word": "hi"}]}
INPUTS = [
    {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
    {"name": "n", "datatype": "INT32", "shape": [1], "data": [3]},
]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNKNOWN = ["/no.such.Service/Do", OIP + "NoSuchMethod", "/grpc.health.v1.Health/Guess"]


async def test_permissions(door: Folder) -> None:
    request = infer_request([[1, 2]], [1])
    code, _, message = await infer_refused(door, request, key=door.keys.other)
    assert code == "PERMISSION_DENIED"
    assert "elsewhere" not in message
    assert (await infer_refused(door, request, key=door.keys.readonly))[0] == "PERMISSION_DENIED"
    request.model_name = "nothing"
    code, reason, message = await infer_refused(door, request)
    assert (code, reason) == ("NOT_FOUND", "PIPELINE_UNKNOWN")
    assert "double" in message
    code, _, message = await infer_refused(door, request, key=door.keys.other)
    assert code == "NOT_FOUND"
    assert "double" not in message


# Operations that need another scope than `operate`, and keys that lack a scope.
SCOPES = dict.fromkeys(["ModelInfer", "ModelStreamInfer", "Predict", "Explain"], "predict")
SCOPES |= {"RecordOutcomes": "outcomes"}
SCOPES |= dict.fromkeys(["ServerLive", "ServerReady", "ServerMetadata"], "")
SCOPES |= dict.fromkeys(
    ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ListPipelines"], "read"
)
LACKING = {
    "operate": ["demo", "other", "readonly"],
    "outcomes": ["readonly", "operator"],
    "predict": ["readonly", "operator"],
}


@pytest.mark.parametrize("service", [OIP_SERVICE, INFERENCE_SERVICE, OPERATIONS_SERVICE, RELEASE_SERVICE])
async def test_each_operation_needs_its_scope(door: Folder, service: Any) -> None:
    for method in methods_of(service):
        scope = SCOPES.get(method.name, "operate")
        if method.client_streaming or scope not in LACKING:
            continue
        assert (await refused(door, method.path, Empty(), Empty, key="nonsense"))[0] == "UNAUTHENTICATED"
        for who in LACKING[scope]:
            key = getattr(door.keys, who)
            code, reason, message = await refused(door, method.path, Empty(), Empty, key=key)
            assert (code, reason) == ("PERMISSION_DENIED", "NOT_ALLOWED"), method.path
            assert f"`{scope}`" in message


async def test_a_short_deadline_runs_no_model(door: Folder, router: FakeRouter) -> None:
    body = frame(infer_request([[1, 2]], [1]))
    before = len(router.calls)
    status, headers, _ = await http(
        door, OIP + "ModelInfer", body, "content-type: application/grpc", "te: trailers", "grpc-timeout: 50u"
    )
    assert (status, headers["grpc-status"]) == (200, "4")
    assert len(router.calls) == before


async def test_a_passed_deadline_is_answered_at_once(door: Folder) -> None:
    request = infer_request([[1, 2]], [8])
    request.parameters["timeout"].int64_param = 50_000
    assert (await infer_refused(door, request))[0] == "DEADLINE_EXCEEDED"


async def test_too_large_and_too_many(door: Folder) -> None:
    rows = 101
    code, reason, message = await infer_refused(door, infer_request([[1, 2]] * rows, [1] * rows))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert "100" in message
    code, reason, message = await infer_refused(door, infer_request([[1, 2]] * 9000, [1] * 9000))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert "65536" in message
    status, _, content = await http(door, "/v2/models/double/infer", b"[" * 70_000)
    assert status == 413
    assert json.loads(content)["reason"] == "TOO_LARGE"


def in_header(own: str) -> str:
    """What a header of the reply says."""
    return own if own.isascii() and own.isprintable() else request_key(own)


async def http_call(door: Folder, path: str, body: bytes, *headers: str) -> tuple[str, bytes]:
    """The reply's header, and its body."""
    status, fields, content = await http(door, path, body, *headers)
    assert status == 200, content
    return fields["x-request-id"], content


@pytest.mark.parametrize("own", IDS)
async def test_an_id_comes_back_as_it_was_in_every_protocol(door: Folder, own: str) -> None:
    assert (await infer(door, infer_request([[1, 2]], [3], id=own))).id == own
    request = pb.PredictRequest(pipeline="double", request_id=own)
    request.rows.add().update(ROWS["rows"][0])
    assert (await call(door, PREDICT, request, pb.PredictResponse)).request_id == own
    expected = in_header(own)
    header, content = await http_call(door, PREDICT, json.dumps({**ROWS, "requestId": own}).encode(), JSON)
    assert (header, json.loads(content)["requestId"]) == (expected, own)
    proto = request.SerializeToString()
    header, content = await http_call(door, PREDICT, proto, "content-type: application/proto")
    assert (header, pb.PredictResponse.FromString(content).request_id) == (expected, own)
    header, content = await http_call(door, PREDICT, frame(request), "content-type: application/grpc-web")
    length = int.from_bytes(content[1:5], "big")
    assert (header, pb.PredictResponse.FromString(content[5 : 5 + length]).request_id) == (expected, own)
    body = json.dumps({"id": own, "inputs": INPUTS}).encode()
    header, content = await http_call(door, "/v2/models/double/infer", body)
    assert (header, json.loads(content)["id"]) == (expected, own)


@pytest.mark.parametrize(
    "own", ["a b", "a,b", "order#12", "é", "0b6f3c1e-3d0f-7a52-9c31-2f1d5c7e9a44", "a" * 128]
)
async def test_a_header_brings_what_headers_can_carry(door: Folder, own: str) -> None:
    """Also one of 36 characters, which Envoy takes for a UUID: outcomes and events are found by it."""
    header, content = await http_call(door, PREDICT, json.dumps(ROWS).encode(), JSON, f"x-request-id: {own}")
    assert (header, json.loads(content)["requestId"]) == (in_header(own), own)


async def test_one_that_is_too_long_is_refused_and_in_a_header_ignored(door: Folder) -> None:
    code, reason, message = await infer_refused(door, infer_request([[1, 2]], [3], id="x" * 1025))
    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    assert "1024 characters" in message
    sent = f"x-request-id: {'x' * 1025}"
    header, _ = await http_call(door, PREDICT, json.dumps(ROWS).encode(), JSON, sent)
    assert len(header) == 32


@pytest.mark.parametrize("own", IDS)
async def test_the_log_and_the_trace_have_a_safe_key_and_the_callers_own(door: Folder, own: str) -> None:
    await infer_refused(door, infer_request([[1, 2]], [77], id=own))  # what fails is logged and traced
    key = request_key(own)

    def lines(name: str) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (door.path / name).read_text().splitlines() if line.startswith("{")
        ]

    [line] = [x for x in lines("ingress.log") if x.get("request_id") == key and x["code"] != "OK"]
    assert line["client_request_id"] == own
    trace = await asyncio.to_thread(poll, "its trace is kept", lambda: traces.find(door.path / "traces", own))
    assert traces.find(door.path / "traces", key) == trace
    assert (trace["request_id"], trace["spans"][0]["attributes"]["client_request_id"]) == (key, own)
    await asyncio.to_thread(
        poll, "it is in Envoy's log", lambda: in_header(own) in [x["request_id"] for x in lines("access.log")]
    )


@pytest.mark.parametrize("own", IDS)
async def test_outcomes_join_by_the_callers_own_id_and_by_the_key(door: Folder, own: str) -> None:
    for name, request_id in (("late", own), ("lost", request_key(own))):
        outcome = pb.Outcome(request_id=request_id, name=name, label=True)
        path = PREDICT.replace("Predict", "RecordOutcomes")
        request = pb.RecordOutcomesRequest(outcomes=[outcome])
        assert (await call(door, path, request, pb.RecordOutcomesResponse)).accepted_count == 1
    with closing(sqlite3.connect(door.path / FACTS)) as connection:
        found = connection.execute(
            "SELECT name FROM outcomes WHERE request_id = ? ORDER BY name", (request_key(own),)
        ).fetchall()
    assert found == [("late",), ("lost",)]


async def test_a_stream_names_each_reply_as_its_request_was(door: Folder) -> None:
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        requests = iter([infer_request([[1, 2]], [3], id=own) for own in IDS])
        metadata = (("x-api-key", door.keys.demo), ("x-request-id", "the stream"))
        replies = stream(channel)(requests, timeout=60, metadata=metadata)
        assert [reply.infer_response.id async for reply in replies] == IDS


def row() -> pb.PredictRequest:
    request = pb.PredictRequest(pipeline="double")
    request.rows.add().update({"x": [1, 2], "n": 3, "word": "hi"})
    return request


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_spaces_around_a_value_are_no_part_of_it(door: Folder, name: str) -> None:
    """As PROTOCOL-HTTP2 demands of servers, and as perf_analyzer sends what README tells: `-H "authorization: Bearer KEY"`."""
    secret = door.keys.demo if name == "x-api-key" else f"Bearer {door.keys.demo}"
    metadata = ((name, f" {secret} "), ("x-request-id", " spaced "), ("traceparent", f" {TRACE} "))
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        reply = await unary(channel, PREDICT, pb.PredictResponse)(row(), timeout=60, metadata=metadata)
    assert (reply.request_id, reply.trace_id) == ("spaced", TRACE.split("-")[1])


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web"])
async def test_an_unknown_method_is_unimplemented_in_grpc(door: Folder, path: str, kind: str) -> None:
    status, headers, _ = await http(door, path, bytes(5), f"content-type: {kind}", "te: trailers")
    assert (status, headers["grpc-status"]) == (200, "12")
    assert headers["content-type"].startswith(kind.removesuffix("+proto"))


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("kind", ["application/json", "application/proto"])
async def test_an_unknown_method_is_unimplemented_in_connect(door: Folder, path: str, kind: str) -> None:
    status, headers, content = await http(door, path, b"", f"content-type: {kind}")
    error = json.loads(content)
    assert (status, error["code"], headers["content-type"]) == (501, "unimplemented", "application/json")
    assert error["details"][0]["debug"]["reason"] == "METHOD_UNKNOWN"


async def test_what_is_no_call_is_not_found(door: Folder) -> None:
    assert (await http(door, "/favicon.ico"))[0] == 404
    assert (await http(door, "/form", b"a=b"))[0] == 404


def requested(door: Folder, method: str, path: str) -> tuple[int, str | None, bytes]:
    """Status, `Allow` and body."""
    request = urllib.request.Request(f"http://{door.grpc}{path}", method=method)
    request.add_header("authorization", f"Bearer {door.keys.demo}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["allow"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["allow"], error.read()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("PUT", "/v2/models/double", "GET, HEAD"),
        ("DELETE", "/v2/models/double/ready", "GET, HEAD"),
        ("GET", "/v2/models/double/infer", "POST"),
        ("HEAD", "/v2/models/double/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", PREDICT, "POST"),
    ],
)
async def test_the_answer_to_an_unknown_method_names_the_allowed_ones(
    door: Folder, method: str, path: str, allow: str
) -> None:
    assert (await asyncio.to_thread(requested, door, method, path))[:2] == (405, allow)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/double", "/v2/models/missing"])
async def test_head_is_answered_as_get_without_the_body(door: Folder, path: str) -> None:
    status, _, body = await asyncio.to_thread(requested, door, "GET", path)
    assert body
    assert await asyncio.to_thread(requested, door, "HEAD", path) == (status, None, b"")


async def test_the_statistics_of_all_models_are_no_model_of_that_name(door: Folder) -> None:
    status, _, content = await http(door, "/v2/models/stats")
    assert status == 200, content
    assert "double" in [model["name"] for model in json.loads(content)["model_stats"]]
    assert (await http(door, "/v2/models/stats/versions/1"))[0] == 404
