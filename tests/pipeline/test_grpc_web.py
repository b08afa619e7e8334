"""gRPC-Web through the real door: what a page in a browser sends, by Connect's client."""

from collections.abc import Iterator

import pytest
from connectrpc.client import ConnectClientSync
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import PREDICT, System, row_request

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
