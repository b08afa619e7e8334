"""The right to a call is proven before its body is read; bodies are read, inflated and parsed within bounds."""

import asyncio
import gzip
import http.client as http_client
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from headrace.api.inference.v1 import inference_pb2
from tests.services.ingress.ingress_calls import (
    JSON,
    OIP,
    PREDICT,
    bearer,
    frame,
    http,
    infer,
    infer_refused,
    rest_body,
)
from tests.services.ingress.ingress_door import DoorProcess, Folder, infer_request, running

pytestmark = pytest.mark.asyncio(loop_scope="session")
REST = "/v2/models/double/infer"
STREAM = OIP + "ModelStreamInfer"
# Path and content type of each protocol's call with a body.
ENTRANCES = {
    "rest": (REST, "application/json"),
    "repository": ("/v2/repository/index", "application/json"),
    "connect-json": (PREDICT, "application/json"),
    "connect-proto": (PREDICT, "application/proto"),
    "grpc-web": (PREDICT, "application/grpc-web+proto"),
    "grpc-web-json": (OIP + "ModelInfer", "application/grpc-web+json"),
    "metadata": (OIP + "ModelMetadata", "application/proto"),
}


def half_sent(
    door: Folder, path: str, content_type: str, key: str, sent: bytes = b"x", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """What is answered to a body of which `sent` alone ever comes."""
    host, port = door.grpc.split(":")
    with socket.create_connection((host, int(port)), 60) as raw:
        fields = {"host": "x", "content-type": content_type, "content-length": "60000"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            fields["authorization"] = f"Bearer {key}"
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        raw.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + sent)
        raw.settimeout(20)
        answer = http_client.HTTPResponse(raw)
        answer.begin()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, got, answer.read()


def refusal(got: tuple[int, dict[str, str], bytes]) -> str:
    """The canonical code of an answer, in whatever protocol."""
    status, headers, body = got
    if "grpc-status" in headers:
        return _NAMES[headers["grpc-status"]]
    assert status >= 400, got
    return str(json.loads(body)["code"]).upper()


_NAMES = {str(code.value[0]): code.name for code in grpc.StatusCode}


# Whose key: no tenant's, one without the scope, one of a tenant that requires encryption at rest, which nobody attests.
REFUSED = {"nobody": "UNAUTHENTICATED", "readonly": "PERMISSION_DENIED", "encrypted": "FAILED_PRECONDITION"}


@pytest.mark.parametrize(
    ("entrance", "who"),
    # Metadata may be read by who has no other scope.
    [(e, who) for e in ENTRANCES for who in REFUSED if (e, who) != ("metadata", "readonly")],
)
async def test_who_may_not_call_is_refused_before_a_body_is_waited_for(
    door: Folder, entrance: str, who: str
) -> None:
    got = await asyncio.to_thread(
        half_sent, door, *ENTRANCES[entrance], getattr(door.keys, who, "hr_made_up")
    )
    assert refusal(got) == REFUSED[who]


@pytest.mark.parametrize("path", [OIP + "ModelInfer", STREAM])
@pytest.mark.parametrize("who", REFUSED)
async def test_over_grpc_neither(door: Folder, path: str, who: str) -> None:
    """A call whose message never comes."""
    metadata = (bearer(door, getattr(door.keys, who, "hr_made_up")),)
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        call: Any = channel.stream_stream(path)(metadata=metadata, timeout=120)
        async with asyncio.timeout(60):
            assert (await call.code()).name == REFUSED[who]


@pytest.mark.parametrize("entrance", ["rest", "connect-json", "grpc-web"])
async def test_the_callers_deadline_covers_the_body(door: Folder, entrance: str) -> None:
    """grpcio's client would give up by itself, so one that forgets its deadline is asked."""
    limit = {"grpc_timeout": "300m"} if entrance == "grpc-web" else {"connect_timeout_ms": "300"}
    began = time.monotonic()
    got = await asyncio.to_thread(half_sent, door, *ENTRANCES[entrance], door.keys.demo, b"\0", **limit)
    assert refusal(got) == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began >= 0.25


async def refused_compressed(door: Folder, entrance: str, data: bytes) -> str:
    """The refusal of a body that is said to be compressed, as each protocol has it."""
    path, content_type = ENTRANCES[entrance]
    encoding = "content-encoding: gzip"
    if entrance.startswith("grpc"):
        data, encoding = b"\1" + len(data).to_bytes(4, "big") + data, "grpc-encoding: gzip"
    return refusal(await http(door, path, data, f"content-type: {content_type}", encoding))


@pytest.mark.parametrize("entrance", ["rest", "connect-json", "connect-proto", "grpc-web"])
async def test_what_inflates_too_much_is_refused(door: Folder, entrance: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert await refused_compressed(door, entrance, bomb) == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("entrance", ["rest", "connect-json", "connect-proto", "grpc-web"])
async def test_what_is_cut_off_or_no_gzip_is_the_callers_fault(door: Folder, entrance: str) -> None:
    for damaged in (gzip.compress(rest_body())[:-9], zlib.compress(b"x")[1:], gzip.compress(b"{}") + b"x"):
        assert await refused_compressed(door, entrance, damaged) == "INVALID_ARGUMENT"


async def test_compressed_web_frames_need_an_encoding(door: Folder) -> None:
    message = frame(inference_pb2.PredictRequest(pipeline="double"), compressed=1)
    got = await http(door, PREDICT, message, "content-type: application/grpc-web+proto")
    assert refusal(got) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("path", ["/v2/%ff", "/v2/models/%c3%28/infer", "/%ed%a0%80", "/v2/models/\xff"])
@pytest.mark.parametrize("content_type", ["application/json", "application/grpc"])
async def test_a_path_that_is_no_text(door: Folder, path: str, content_type: str) -> None:
    host, port = door.grpc.split(":")

    def answered() -> bytes:
        with socket.create_connection((host, int(port)), 60) as raw:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n"
            head += "connection: close\r\ncontent-length: 0\r\n\r\n"
            raw.sendall(head.encode("latin-1"))
            raw.settimeout(60)
            answer = b""
            while piece := raw.recv(65536):
                answer += piece
            return answer

    answer = await asyncio.to_thread(answered)
    if content_type == "application/grpc" and b" 200 " in answer[:20]:
        assert b"grpc-status: 3" in answer
    else:
        assert b" 400 " in answer[:20]


async def test_a_path_with_other_peoples_letters_is_text(door: Folder) -> None:
    status, _, body = await http(door, "/v2/models/%E2%82%AC%F0%9F%98%80")
    assert (status, json.loads(body)["reason"]) == (404, "PIPELINE_UNKNOWN")


@pytest.mark.parametrize(
    "body",
    [
        b'{"parameters": {"\\ud800": 1}, "inputs": []}',
        b'{"\\ud800": 1}',
        b'{"inputs": [{"name": "x", "parameters": {"\\udfff": true}}]}',
        b'{"id": "\xed\xa0\x80"}',
        b'{"id": "\\ud83d\\ud83d\\ude00"}',
    ],
)
async def test_half_a_surrogate_pair_is_the_callers_fault(door: Folder, body: bytes) -> None:
    for path in (REST, "/v2/repository/models/doubler/load", PREDICT):
        key = door.keys.operator if "repository" in path else door.keys.demo
        got = await http(door, path, body, JSON, key=key)
        assert (got[0], refusal(got)) == (400, "INVALID_ARGUMENT")


async def test_nobody_names_another_address_on_the_public_port(door: Folder) -> None:
    host, port = door.grpc.split(":")
    for forged in (
        b"PROXY TCP4 6.6.6.6 1.1.1.1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\6\6\6\6\1\1\1\1\0\1\0\2",
    ):
        with socket.create_connection((host, int(port)), 60) as raw:
            raw.sendall(forged + b"GET /v2 HTTP/1.1\r\nhost: forged\r\nconnection: close\r\n\r\n")
            raw.settimeout(60)
            assert b" 200 " not in raw.recv(100)[:20]
    await infer(door, infer_request([[1, 2]], [1]))


@pytest.mark.parametrize("tls", [True, False])
async def test_headers_over_the_limit_get_an_answer(door: Folder, tls: bool) -> None:
    huge = f"x-huge: {'x' * 40_000}"
    status, _, _ = await http(door, "/v2", None, huge, "accept: */*", tls=tls)
    assert status == 431
    path, content_type = ENTRANCES["grpc-web"]
    got = await http(door, path, b"", f"content-type: {content_type}", huge, tls=tls)
    assert refusal(got) == "RESOURCE_EXHAUSTED"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def narrow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Folder, DoorProcess]]:
    """A door of its own, with small limits, and a tenant who may have one call at a time."""
    limits = {"max_request_bytes": 5_000_000, "max_rows": 100, "max_values": 5000, "max_body_s": 1.0}
    limits["max_arriving_bytes"] = 9_000_000
    one = {"slow": {"limits": {"concurrency": 1}}}
    async with running(tmp_path_factory.mktemp("narrow"), changed=one, limits=limits) as process:
        yield process.folder, process


async def test_a_body_must_be_whole_in_time(narrow: tuple[Folder, DoorProcess]) -> None:
    door, _ = narrow
    got = await asyncio.to_thread(half_sent, door, *ENTRANCES["rest"], door.keys.demo)
    assert refusal(got) == "DEADLINE_EXCEEDED"
    assert b"1 s" in got[2]


async def test_half_sent_bodies_count_for_their_tenant_and_nobody_else(
    narrow: tuple[Folder, DoorProcess],
) -> None:
    door, _ = narrow
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        metadata = (bearer(door, door.keys.slow),)
        # No message comes, and no end of them.
        waiting: Any = channel.stream_unary(OIP + "ModelInfer")(metadata=metadata, timeout=20)
        while not door.sample("headrace_ingress_in_flight"):
            await asyncio.sleep(0.02)
        refused = await infer_refused(door, infer_request([[1, 2]], [1]), key=door.keys.slow)
        assert refused[:2] == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        await infer(door, infer_request([[1, 2]], [1]))
        async with asyncio.timeout(60):
            assert (await waiting.code()).name == "DEADLINE_EXCEEDED"
    while door.sample("headrace_ingress_in_flight") != 0:
        await asyncio.sleep(0.02)
    await infer(door, infer_request([[1, 2]], [1]), key=door.keys.slow)


EMPTY_ROWS = b"\x22\x00" * 1_000_000


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc-web", "application/proto"])
async def test_a_message_of_a_million_rows_is_not_parsed(
    narrow: tuple[Folder, DoorProcess], content_type: str
) -> None:
    door, process = narrow
    body = EMPTY_ROWS
    if "grpc" in content_type:
        body = b"\0" + len(body).to_bytes(4, "big") + body
    before = memory(process)
    for _ in range(5):
        got = await http(door, PREDICT, body, f"content-type: {content_type}", "te: trailers")
        assert refusal(got) == "RESOURCE_EXHAUSTED"
    # Parsed, they would be 32 MB each.
    assert memory(process) - before < 30e6


@pytest.mark.parametrize("path", [PREDICT, REST])
async def test_json_of_many_values_is_not_parsed(narrow: tuple[Folder, DoorProcess], path: str) -> None:
    door, _ = narrow
    body = b'{"rows": [' + b"{}," * 100_000 + b"{}]}"
    got = await http(door, path, body, JSON)
    assert refusal(got) == "RESOURCE_EXHAUSTED"
    assert b"5000 values" in got[2]


@pytest.mark.parametrize("pretty", [None, 200])
async def test_large_json_is_read_as_small_is(narrow: tuple[Folder, DoorProcess], pretty: int | None) -> None:
    """Above 16 KiB in a thread, above 256 KiB in steps."""
    door, _ = narrow
    rows = [{"x": [i + 0.25, 2], "n": i % 7, "word": f"é{i}"} for i in range(100)]
    for indent in (None, pretty):
        text = json.dumps({"pipeline": "double", "rows": rows}, indent=indent)
        assert len(text) > (16_384 if indent else 3000)
        status, _, answer = await http(door, PREDICT, text.encode(), JSON)
        assert status == 200, answer
        said = [p["outputs"]["said"] for p in json.loads(answer)["predictions"]]
        assert said == [row["word"] for row in rows]


async def test_a_stream_of_half_sent_bodies_is_bounded_in_bytes(narrow: tuple[Folder, DoorProcess]) -> None:
    door, _ = narrow
    # Half of 9 MB is what one tenant may have arriving.
    got = await asyncio.to_thread(
        half_sent, door, *ENTRANCES["rest"], door.keys.demo, sent=bytes(4_700_000), content_length="4900000"
    )
    assert refusal(got) == "RESOURCE_EXHAUSTED"
    assert json.loads(got[2])["metadata"] == {"limiter": "arriving_bytes"}


def memory(process: DoorProcess) -> int:
    """Bytes that the process holds."""
    text = Path(f"/proc/{process.process.pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


async def test_made_up_credentials_are_not_stored(narrow: tuple[Folder, DoorProcess]) -> None:
    door, process = narrow
    async with grpc.aio.insecure_channel(door.grpc) as channel:
        infer_: Any = channel.unary_unary(OIP + "ModelInfer")
        before = memory(process)
        for i in range(1500):
            with pytest.raises(grpc.aio.AioRpcError):
                await infer_(b"", metadata=(("authorization", f"Bearer {i:029000}"),), timeout=60)
    # Each has 29 KB.
    assert memory(process) - before < 20e6


async def test_failed_calls_leave_no_message_in_memory(narrow: tuple[Folder, DoorProcess]) -> None:
    door, process = narrow
    request = infer_request([[1, 2]], [1], model_version="99")
    request.raw_input_contents.append(bytes(3_000_000))
    before = memory(process)
    for _ in range(30):
        assert (await infer_refused(door, request))[0] in ("NOT_FOUND", "INVALID_ARGUMENT")
    assert memory(process) - before < 40e6
