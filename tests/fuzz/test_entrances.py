"""Every entrance that takes a body, with and without a credential: damaged, compressed, nested, half-sent, by HTTP/1.1 or 2."""

import gzip
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as oip
from tests.posting import post_raw
from tests.system import OIP, PREDICT, System, row_request

REST = "/v2/models/flights/infer"
# Path and content type.
ENTRANCES = [
    (REST, "application/json"),
    ("/v2/repository/index", "application/json"),
    ("/v2/repository/models/flights_light/load", "application/json"),
    (PREDICT, "application/json"),
    (PREDICT, "application/proto"),
    (PREDICT, "application/grpc"),
    (PREDICT, "application/grpc-web+proto"),
    (PREDICT, "application/grpc-web+json"),
    (PREDICT, "application/grpc+json"),
    (OIP + "ModelInfer", "application/grpc"),
    (OIP + "ModelInfer", "application/json"),
    (OIP + "ModelInfer", "application/grpc-web"),
    (OIP + "ModelStreamInfer", "application/grpc"),
    (OIP + "ModelStreamInfer", "application/connect+json"),
    (OIP + "ModelMetadata", "application/json"),
    ("/grpc.health.v1.Health/Check", "application/json"),
    ("/v2/no/such", "application/json"),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "application/grpc"),
]
NONE: Mapping[str, str] = MappingProxyType({})
BAD = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
BAD_NUMBERS = {str(code.value[0]) for code in BAD}
fuzz = settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def is_framed(content_type: str) -> bool:
    return "grpc" in content_type or "connect+" in content_type


def sound_body(system: System, path: str, content_type: str) -> bytes:
    """A body that the entrance takes, before framing and compression."""
    request: Any = row_request(system.rows[0])
    if path.endswith(("ModelInfer", "ModelStreamInfer", "/infer")):
        request = oip.ModelInferRequest(model_name="flights")
        request.inputs.add(name="month", datatype="INT32", shape=[1]).contents.int_contents.append(3)
    if content_type.endswith("json"):
        return json.dumps({"pipeline": "flights", "rows": [system.rows[0]]}).encode()
    data: bytes = request.SerializeToString()
    return data


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda body: body,
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda body: body,
}


def whole(system: System, entrance: tuple[str, str], body: bytes, encoding: str, flag: int) -> bytes:
    body = COMPRESSIONS[encoding](body)
    return struct.pack(">BI", flag, len(body)) + body if is_framed(entrance[1]) else body


def send(
    system: System,
    entrance: tuple[str, str],
    body: bytes,
    *,
    key: str,
    more: Mapping[str, str] = NONE,
    announced: int | None = None,
) -> tuple[int, dict[str, str]]:
    """HTTP status and headers; (0, {}) if the connection was closed on us."""
    path, content_type = entrance
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    headers = {"host": "x", "content-type": content_type, "te": "trailers", "connection": "close", **more}
    headers["content-length"] = str(len(body) if announced is None else announced)
    if key:
        headers["authorization"] = f"Bearer {key}"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        try:
            raw.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
            answer = http.client.HTTPResponse(raw)
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        except (ConnectionError, http.client.BadStatusLine):
            return 0, {}


def check(answer: tuple[int, dict[str, str]]) -> None:
    status, headers = answer
    # 501: an encoding that nobody knows. 504: a deadline that a header set.
    assert status < 500 or status in (501, 504), answer
    assert headers.get("grpc-status") not in BAD_NUMBERS, answer


flags = st.sampled_from([0, 0, 0, 1, 1, 2, 0x80, 255])
encodings = st.sampled_from(list(COMPRESSIONS))
entrances = st.sampled_from(ENTRANCES)


@fuzz
@given(entrance=entrances, body=st.binary(max_size=200), encoding=encodings, flag=flags, known=st.booleans())
def test_any_bytes(
    system: System, entrance: tuple[str, str], body: bytes, encoding: str, flag: int, known: bool
) -> None:
    name = "grpc-encoding" if is_framed(entrance[1]) else "content-encoding"
    more = {name: encoding} if encoding else {}
    content = whole(system, entrance, body, encoding, flag)
    check(send(system, entrance, content, key=system.key if known else "hr_made_up", more=more))


@fuzz
@given(
    entrance=entrances,
    at=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 20),
    put=st.binary(max_size=20),
    encoding=encodings,
)
def test_damaged_bodies(
    system: System, entrance: tuple[str, str], at: float, cut: int, put: bytes, encoding: str
) -> None:
    name = "grpc-encoding" if is_framed(entrance[1]) else "content-encoding"
    content = whole(system, entrance, sound_body(system, *entrance), encoding, int(encoding == "gzip"))
    start = int(at * len(content))
    content = content[:start] + put + content[start + cut :]
    check(send(system, entrance, content, key=system.key, more={name: encoding} if encoding else {}))


@fuzz
@given(
    entrance=entrances,
    sent=st.floats(0, 1, exclude_max=True),
    more=st.integers(1, 1 << 30),
    known=st.booleans(),
)
def test_half_sent_bodies(
    system: System, entrance: tuple[str, str], sent: float, more: int, known: bool
) -> None:
    """With a deadline an answer comes without the rest; without a credential at once."""
    body = whole(system, entrance, sound_body(system, *entrance), "", 0)
    body = body[: int(sent * len(body))]
    timeout = {"grpc-timeout": "30m"} if "grpc" in entrance[1] else {"connect-timeout-ms": "30"}
    key = system.key if known else ""
    check(send(system, entrance, body, key=key, announced=len(body) + more, more=timeout))


# What becomes much larger than it comes, by path.
BOMBS = {
    "zeros": bytes(2_000_000),
    "rows": b"\x22\x00" * 1_000_000,
    "tensors": b"\x22\x00" * 500_000,
    "lists": b"[" * 2_000_000,
    "objects": b'{"rows": [' + b"{}," * 600_000 + b"{}]}",
    "commas": b'{"inputs": [' + b"0," * 900_000 + b"0]}",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize(
    "entrance", ENTRANCES, ids=lambda e: f"{e[0].rpartition('/')[2]}-{e[1].rpartition('/')[2]}"
)
def test_bombs(system: System, entrance: tuple[str, str], bomb: str) -> None:
    for encoding, key in (("gzip", ""), ("gzip", system.key), ("", system.key)):
        content = whole(system, entrance, BOMBS[bomb], encoding, int(encoding == "gzip"))
        name = "grpc-encoding" if is_framed(entrance[1]) else "content-encoding"
        check(send(system, entrance, content, key=key, more={name: encoding} if encoding else {}))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["pipeline", "version", "rows", "inputs", "outputs", "parameters", "id", "requestId", "x"]
)


@fuzz
@given(
    entrance=entrances.filter(lambda e: e[1] == "application/json"),
    body=st.dictionaries(names, values) | values,
    put=st.sampled_from([b"", rb"\ud800", rb"\udfff", b"\xed\xa0\x80", b"\xff", b"\0"]),
    at=st.floats(0, 1, exclude_max=True),
)
def test_json_with_text_that_is_none(
    system: System, entrance: tuple[str, str], body: Any, put: bytes, at: float
) -> None:
    text = json.dumps(body).encode()
    start = int(at * len(text))
    check(send(system, entrance, text[:start] + put + text[start:], key=system.key))


@fuzz
@given(path=st.binary(max_size=30), start=st.sampled_from(["/", "/v2/", "/v2/models/", PREDICT]))
def test_paths(system: System, path: bytes, start: str) -> None:
    text = start + "".join(f"%{byte:02x}" for byte in path)
    check(send(system, (text, "application/json"), b"{}", key=system.key))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
POST = b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nhost: x\r\n"


def code_of(channel: grpc.Channel, path: str, body: bytes, metadata: Any) -> grpc.StatusCode:
    call: Any = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        call(body, timeout=60, metadata=metadata)
    except grpc.RpcError as raised:
        error: Any = raised
        assert "Traceback" not in (error.details() or "")
        return grpc.StatusCode(error.code())
    return grpc.StatusCode.OK


metadata_keys = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True).filter(
    lambda k: not k.startswith("grpc-") and not k.endswith("-bin")
)
metadata_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


@fuzz
@given(headers=st.lists(st.tuples(metadata_keys, metadata_values), max_size=8))
def test_headers(system: System, headers: list[tuple[str, str]]) -> None:
    body = row_request(system.rows[0]).SerializeToString()
    with system.channel() as channel:
        assert code_of(channel, PREDICT, body, [*headers, *system.auth()]) not in BAD


tensors = st.builds(
    oip.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["carrier", "origin", "dest", "tailnum", "month", "hour", "minute", "x", ""]),
    datatype=st.sampled_from(["BYTES", "INT32", "FP32", "FP16", "BF16", "BOOL", "", "int32"]),
    shape=st.lists(st.sampled_from([1, 1, 1, 0, 2, -1, 2**40, 2**62]), max_size=4),
)


@fuzz
@given(inputs=st.lists(tensors, max_size=10), raw=st.lists(st.binary(max_size=24), max_size=10))
def test_tensors(system: System, inputs: list[Any], raw: list[bytes]) -> None:
    request = oip.ModelInferRequest(model_name="flights", inputs=inputs, raw_input_contents=raw)
    with system.channel() as channel:
        assert code_of(channel, OIP + "ModelInfer", request.SerializeToString(), system.auth()) not in BAD


@fuzz
@given(begin=st.sampled_from([b"", PREFACE, POST]), body=st.binary(max_size=400))
def test_raw_sockets(system: System, begin: bytes, body: bytes) -> None:
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    # A connection with garbage may be reset, even while we still send; it must not stay open without an answer.
    with socket.create_connection((host, int(port)), timeout=60) as connection, suppress(ConnectionError):
        connection.sendall(begin + body + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc+nonsense", "application/xml", ""])
def test_wrong_content_type(system: System, content_type: str) -> None:
    status, _ = post_raw(system, PREDICT, {"content-type": content_type}, b"\x00\x00\x00\x00\x05hello")
    assert 400 <= status < 500
