"""Bytes, headers and tensors that nobody should send: every answer is a clean error, and the services stay up."""

import json
import socket
from contextlib import suppress
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as oip
from tests.posting import post_raw
from tests.system import OIP, PREDICT, System, row_request

PATHS = [
    PREDICT,
    OIP + "ModelInfer",
    OIP + "ModelMetadata",
    OIP + "ModelConfig",
    OIP + "NoSuch",
    "/no.Such/Thing",
]
BAD = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
BAD_NUMBERS = {str(code.value[0]) for code in BAD}
JSON_PATHS = [PREDICT, "/v2/models/flights/infer", "/v2/models/flights", "/v2/no/such"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
POST = b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nhost: x\r\n"
fuzz = settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def code_of(channel: grpc.Channel, path: str, body: bytes, metadata: Any) -> grpc.StatusCode:
    call: Any = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        call(body, timeout=60, metadata=metadata)
    except grpc.RpcError as raised:
        error: Any = raised
        assert "Traceback" not in (error.details() or "")
        return grpc.StatusCode(error.code())
    return grpc.StatusCode.OK


@fuzz
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=300))
def test_bytes(system: System, path: str, body: bytes) -> None:
    with system.channel() as channel:
        assert code_of(channel, path, body, system.auth()) not in BAD


@fuzz
@given(at=st.floats(0, 1, exclude_max=True), cut=st.integers(0, 20), put=st.binary(max_size=20))
def test_damaged_messages(system: System, at: float, cut: int, put: bytes) -> None:
    sound = row_request(system.rows[0]).SerializeToString()
    start = int(at * len(sound))
    body = sound[:start] + put + sound[start + cut :]
    with system.channel() as channel:
        assert code_of(channel, PREDICT, body, system.auth()) not in BAD


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


@fuzz
@given(body=st.binary(max_size=40), encoding=st.sampled_from(["", "gzip", "br"]))
def test_frames(system: System, body: bytes, encoding: str) -> None:
    headers = {"content-type": "application/grpc", "grpc-encoding": encoding, "te": "trailers"}
    status, answered = post_raw(system, PREDICT, headers, body)
    assert status < 500
    assert answered.get("grpc-status") not in BAD_NUMBERS


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["pipeline", "version", "rows", "inputs", "outputs", "parameters", "id", "requestId", "x"]
)


@fuzz
@given(path=st.sampled_from(JSON_PATHS), body=st.dictionaries(names, values, max_size=5) | values)
def test_json(system: System, path: str, body: Any) -> None:
    if isinstance(body, dict):
        body = {"pipeline": "flights", **body}
    headers = {"content-type": "application/json"}
    assert post_raw(system, path, headers, json.dumps(body).encode())[0] < 500


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc+nonsense", "application/xml", ""])
def test_wrong_content_type(system: System, content_type: str) -> None:
    status, _ = post_raw(system, PREDICT, {"content-type": content_type}, b"\x00\x00\x00\x00\x05hello")
    assert 400 <= status < 500


def test_huge_headers(system: System) -> None:
    headers = {"content-type": "application/json", "x-huge": "x" * (1 << 20)}
    status, _ = post_raw(system, PREDICT, headers, b"{}")
    assert 400 <= status < 500
