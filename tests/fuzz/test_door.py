"""Bytes, headers and tensors that nobody should send: every answer is a clean error, and the services stay up."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.oip import open_inference_pb2 as oip
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
fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@pytest.fixture(autouse=True)
def _still_up(system: System) -> Any:
    before = system.status()["services"]["ingress"]["pid"]
    yield
    assert system.status()["services"]["ingress"]["pid"] == before
    assert system.predict(row_request(system.rows[0])).predictions[0].outputs["probability"] >= 0


def code_of(channel: grpc.Channel, path: str, body: bytes, metadata: Any) -> grpc.StatusCode:
    call: Any = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        call(body, timeout=5, metadata=metadata)
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
@given(body=st.binary(max_size=400))
def test_raw_sockets(system: System, body: bytes) -> None:
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(body + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc+nonsense", "application/xml", ""])
def test_wrong_content_type(system: System, content_type: str) -> None:
    answer = post_raw(system, PREDICT, {"content-type": content_type}, b"\x00\x00\x00\x00\x05hello")
    assert 400 <= answer < 500


def test_huge_headers(system: System) -> None:
    answer = post_raw(system, PREDICT, {"content-type": "application/json", "x-huge": "x" * (1 << 20)}, b"{}")
    assert 400 <= answer < 500


def post_raw(system: System, path: str, headers: dict[str, str], body: bytes) -> int:
    import http.client

    host, port = system.endpoints["grpc"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("POST", path, body, {**headers, "authorization": f"Bearer {system.key}"})
        return connection.getresponse().status
    except (ConnectionError, http.client.RemoteDisconnected):
        return 400  # closed while we were still sending: also a refusal
    finally:
        connection.close()
