"""What the door refuses, and how it says so, in every protocol."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from headrace.state import tenants as documents
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
    rest_body,
)
from tests.services.ingress.ingress_door import FakeRouter, Folder, infer_request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("key", ["", "hr_00000000_unknown", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."])
async def test_bad_credentials_get_one_answer(door: Folder, key: str) -> None:
    code, reason, message = await infer_refused(door, infer_request([[1, 2]], [1]), key=key)
    assert (code, reason) == ("UNAUTHENTICATED", "CREDENTIAL_INVALID")
    assert message == "no valid credential: send `authorization: Bearer KEY` or `x-api-key: KEY`"


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


async def test_a_quota_has_a_retry_hint_and_spares_others(door: Folder) -> None:
    request = infer_request([[1, 2]], [1])
    await infer(door, request, key=door.keys.slow)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(door, request, key=door.keys.slow)
    trailing = dict(caught.value.trailing_metadata() or ())
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < int(trailing["grpc-retry-pushback-ms"]) <= 2000
    await infer(door, request)
    status, headers, _ = await http(door, "/v2/models/double/infer", rest_body(), key=door.keys.slow)
    assert status == 429
    assert int(headers["retry-after"]) >= 1


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


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", [], "3"),
        (b"\0\0\0", [], "3"),
        (b"\0\0\0\0\x05abc", [], "3"),
        (b"\0\0\0\0\x03\xff\xff\xff", [], "3"),
        (b"\x07\0\0\0\0", [], "3"),
        (b"\x01\0\0\0\x02ab", [], "3"),
        (b"\x01\0\0\0\x02ab", ["grpc-encoding: gzip"], "3"),
        (b"\x01\0\0\0\x02ab", ["grpc-encoding: snappy"], "12"),
        (b"\0\xff\xff\xff\xff", [], "8"),
        (b"\0\0\0\0\0", ["grpc-timeout: soon"], "3"),
    ],
)
async def test_broken_frames(door: Folder, body: bytes, headers: list[str], code: str) -> None:
    if door.settings["mode"] == "grpc" and code == "3" and len(body) < 9:
        pytest.skip(
            "grpcio waits for the rest of a frame that is cut off, until Envoy's idle timeout ends the stream"
        )
    status, got, _ = await http(
        door, OIP + "ModelInfer", body, "content-type: application/grpc", "te: trailers", *headers
    )
    assert status == 200
    if door.settings["mode"] == "grpc":  # grpcio reads the frames there, and has codes of its own
        assert got["grpc-status"]
        return
    assert got["grpc-status"] == code
    assert "grpc-message" in got
    assert "x-request-id" in got


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


async def test_unknown_methods_and_huge_headers(door: Folder) -> None:
    empty = oip.ServerLiveRequest()
    assert (await refused(door, OIP + "NoSuch", empty, oip.ServerLiveResponse))[0] == "UNIMPLEMENTED"
    assert (await http(door, "/nothing"))[0] == 404
    assert (await http(door, "/v2", None, f"x-huge: {'x' * 60_000}"))[0] == 431
    assert (await http(door, PREDICT, b"{", JSON))[0] == 400
    assert (await http(door, PREDICT, b"{}", "content-type: text/html"))[0] == 415


async def test_garbage_on_the_wire_leaves_the_door_open(door: Folder) -> None:
    host, port = door.grpc.split(":")
    for garbage in (
        b"\xff" * 2000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xee" * 500,
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), 5) as raw:
            raw.sendall(garbage)
            raw.settimeout(1)
            with contextlib.suppress(OSError):
                raw.recv(100)
    await infer(door, infer_request([[1, 2]], [1]))


async def test_a_revoked_key_dies_within_seconds(door: Folder) -> None:
    path = Path(door.settings["tenants"])
    before = path.read_bytes()
    request = oip.ModelReadyRequest(name="double")
    await call(door, OIP + "ModelReady", request, oip.ModelReadyResponse, key=door.keys.readonly)
    file = documents.load(path)
    try:
        documents.save(path, file.without_key("readonly", file.tenants["readonly"].keys[0].id))
        async with asyncio.timeout(60):
            while True:
                try:
                    await call(
                        door, OIP + "ModelReady", request, oip.ModelReadyResponse, key=door.keys.readonly
                    )
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                    break
                await asyncio.sleep(0.05)
        assert code == grpc.StatusCode.UNAUTHENTICATED
    finally:
        path.write_bytes(before)
