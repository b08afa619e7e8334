"""gRPC-Web through the real door: what a page in a browser sends, by Connect's client and by hand."""

import struct
from collections.abc import Iterator

import pytest
from connectrpc.client import ConnectClientSync
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.posting import post_whole
from tests.system import PREDICT, System, row_request

_PREFIX = struct.Struct(">BI")
_TRAILERS = 0x80
SERVICE, _, NAME = PREDICT[1:].partition("/")
METHOD = MethodInfo(
    name=NAME,
    service_name=SERVICE,
    input=pb.PredictRequest,
    output=pb.PredictResponse,
    idempotency_level=IdempotencyLevel.UNKNOWN,
    stream_type=StreamType.UNARY,
)


@pytest.fixture(params=[None, GzipCompression()], ids=["plain", "gzip"])
def client(system: System, request: pytest.FixtureRequest) -> Iterator[ConnectClientSync]:
    with ConnectClientSync(
        system.endpoints["http"],
        protocol=ProtocolType.GRPC_WEB,
        codec=google_protobuf_binary_codec(),
        send_compression=request.param,
    ) as client:
        yield client


def predict(client: ConnectClientSync, request: pb.PredictRequest, key: str) -> pb.PredictResponse:
    answer: pb.PredictResponse = client.execute_unary(
        request=request, method=METHOD, headers={"authorization": f"Bearer {key}"}, timeout_ms=5000
    )
    return answer


def test_connects_client(system: System, client: ConnectClientSync) -> None:
    answer = predict(client, row_request(*system.rows[:3]), system.key)
    expected = system.predict(row_request(*system.rows[:3]))
    assert [p.outputs["probability"] for p in answer.predictions] == [
        p.outputs["probability"] for p in expected.predictions
    ]


def test_connects_client_hears_why_not(system: System, client: ConnectClientSync) -> None:
    with pytest.raises(ConnectError) as refused:
        predict(client, row_request({**system.rows[0], "month": 13}), system.key)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert "month" in refused.value.message
    with pytest.raises(ConnectError) as unknown:
        predict(client, row_request(system.rows[0]), "hr_unknown")
    assert unknown.value.code is Code.UNAUTHENTICATED


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """(flags, content) of each frame; nothing may be left over."""
    found = []
    while body:
        flags, length = _PREFIX.unpack_from(body)
        assert len(body) >= _PREFIX.size + length
        found.append((flags, body[_PREFIX.size : _PREFIX.size + length]))
        body = body[_PREFIX.size + length :]
    return found


def trailers(content: bytes) -> dict[str, str]:
    lines = content.decode().strip().split("\r\n")
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("content_type", ["application/grpc-web", "application/grpc-web+proto"])
def test_frames_made_by_hand(system: System, content_type: str) -> None:
    message = row_request(system.rows[0], request_id="web-1").SerializeToString()
    headers = {"content-type": content_type, "x-grpc-web": "1"}
    status, got, body = post_whole(system, PREDICT, headers, _PREFIX.pack(0, len(message)) + message)
    assert (status, got["content-type"], got["x-request-id"]) == (200, "application/grpc-web+proto", "web-1")
    [(flags, reply), (last, end)] = frames(body)
    assert (flags, last) == (0, _TRAILERS)
    assert pb.PredictResponse.FromString(reply).request_id == "web-1"
    assert trailers(end)["grpc-status"] == "0"


def test_a_broken_frame_made_by_hand(system: System) -> None:
    headers = {"content-type": "application/grpc-web+proto"}
    status, got, body = post_whole(system, PREDICT, headers, _PREFIX.pack(0, 3) + b"\xff\xff\xff")
    assert status == 200
    said = trailers(frames(body)[-1][1]) if body else got
    assert said["grpc-status"] == str(3)
